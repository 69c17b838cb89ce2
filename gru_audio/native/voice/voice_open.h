// From the bytes of an exported voice to what the core's loops take; see voice_file.h.
#ifndef GRU_VOICE_OPEN_H
#define GRU_VOICE_OPEN_H

#include "../gru_audio.h"
#include "voice_file.h"

struct gru_audio_voice {
    struct gru_audio_facts facts;
    const struct voice_numbers *numbers;
    uint32_t checksum; // of the file: by it a saved stream knows its voice
    struct mel_scale scale;
    struct gru_int8_network network;
    struct gru_conditioner conditioner;
    struct lpc_tables prediction;
    struct correction_plan correction;
    const float *group_means; // (MEAN_GROUPS,)
};

static void voice_read_network(struct voice_reader *reader, const struct voice_numbers *n,
                               struct gru_int8_network *network) {
    const int64_t S = n->samples_per_step, Q = (int64_t)1 << n->bits;
    const int64_t n_pairs = voice_padded(n->gru_size, PAIR_UNITS) / PAIR_UNITS;
    const int64_t n_units = voice_padded(n->gru_size, QUAD_UNITS),
                  n_rows = voice_padded(n->readout_size, QUAD_UNITS);
    const int64_t n_groups = voice_padded(n->readout_size, GROUP_UNITS) / GROUP_UNITS;
    const int64_t n_blocks = 2 * n_pairs * (n->n_reset_blocks + n->n_update_blocks + n->n_new_blocks);
    const int64_t n_columns = n_blocks + FOUR_COLUMNS; // what lies behind the last block's is fetched only
    const int64_t n_readout_parts = n->n_readout_blocks == 2 * PAIR_FOURS
                                        ? n_pairs * PAIR_FOURS
                                        : n_units / QUAD_UNITS * n->n_readout_blocks;
    const int64_t n_readout_blocks = n_readout_parts * S * n_groups;
    const int64_t n_step_tables = n->order ? 2 * S + 2 : S, n_readout_tables = n->order ? S + 3 : S;
    int64_t n_subtrees = 0;
    for (int64_t top = 0; top < n->bits; top += SUBTREE_BITS)
        n_subtrees += (int64_t)1 << top;
    *network = (struct gru_int8_network){.gru_size = n->gru_size,
                                         .readout_size = n->readout_size,
                                         .samples_per_step = S,
                                         .order = n->order,
                                         .bits = n->bits,
                                         .n_pairs = n_pairs,
                                         .n_readout_groups = n_groups,
                                         .n_reset_blocks = n->n_reset_blocks,
                                         .n_update_blocks = n->n_update_blocks,
                                         .n_new_blocks = n->n_new_blocks,
                                         .n_readout_blocks = n->n_readout_blocks,
                                         .readout_input_limit = (float)n->readout_input_limit,
                                         .n_buckets = n->n_buckets,
                                         .bucket_bits = n->bucket_bits,
                                         .preemphasis = (float)n->preemphasis};
    network->blocks = voice_take(reader, INT8_BLOCK_BYTES, n_blocks);
    network->columns = voice_take(reader, sizeof(uint16_t), n_columns);
    network->gate_units = voice_floats(reader, 3 * n_units);
    network->own_weights = voice_take(reader, sizeof(int16_t), 3 * n_units);
    network->step_tables = voice_take(reader, 1, n_step_tables * Q * 3 * n_units);
    network->gate_factors = voice_floats_within(reader, 3 * n_units, 0.0f, VOICE_LARGEST_FACTOR);
    network->gate_sums = voice_take(reader, sizeof(int32_t), 3 * n_units);
    network->new_bias = voice_take(reader, sizeof(int32_t), n_units);
    network->readout_blocks = voice_take(reader, INT8_BLOCK_BYTES, n_readout_blocks);
    network->readout_columns = voice_take(reader, 1, n_readout_blocks);
    network->readout_units = voice_floats(reader, n_rows);
    network->readout_tables = voice_take(reader, 1, n_readout_tables * Q * n_rows);
    network->readout_factors = voice_floats_within(reader, n_rows, 0.0f, VOICE_LARGEST_FACTOR);
    network->readout_sums = voice_take(reader, sizeof(int32_t), S * n_rows);
    network->readout_bias = voice_take(reader, sizeof(int32_t), S * n_rows);
    network->tree_blocks = voice_take(reader, INT8_BLOCK_BYTES, n_subtrees * n_groups * 4);
    network->tree_units = voice_floats(reader, n_subtrees * SUBTREE_NODES);
    network->tree_bias = voice_floats(reader, n_subtrees * SUBTREE_NODES);
    network->edges = voice_take(reader, sizeof(float), Q);
    network->expansion = voice_floats(reader, Q);
    network->first_codes = voice_take(reader, sizeof(int16_t), n->n_buckets);
    // A block's four columns lie within the state, the readout's within a quad's; no code is above the last edge.
    for (int64_t i = 0; reader->is_sound && i < n_columns; i++)
        voice_require(reader, network->columns[i] <= n_units - FOUR_COLUMNS);
    for (int64_t i = 0; reader->is_sound && i < n_readout_blocks; i++)
        voice_require(reader, network->readout_columns[i] <= QUAD_UNITS - FOUR_COLUMNS);
    for (int64_t i = 0; reader->is_sound && i < n->n_buckets; i++)
        voice_require(reader, voice_is_within(network->first_codes[i], 0, Q - 1));
    voice_require(reader, reader->is_sound && network->edges[Q - 1] != network->edges[Q - 1]); // NaN
}

static void voice_read_conditioner(struct voice_reader *reader, const struct voice_numbers *n,
                                   struct gru_conditioner *conditioner) {
    const int64_t M = n->n_mels, C = voice_padded(n->conditioning_size, DENSE_WIDTH);
    const int64_t predicts = n->order > 0, K = predicts ? voice_padded(n->pitch_size, DENSE_WIDTH) : 0;
    const int64_t gates = 3 * n->gru_size, n_lag_scores = predicts * (n->n_lag_bins + 1);
    const struct {
        int64_t n_outputs, n_inputs;
    } sizes[N_LAYERS] = {{K, predicts * 3 * M},
                         {K, 3 * K},
                         {n_lag_scores, K},
                         {C, 3 * M},
                         {C, 3 * C},
                         {C, C + 2},
                         {C, C},
                         {gates, C},
                         {n->readout_size, C}};
    *conditioner = (struct gru_conditioner){.n_mels = M,
                                            .n_lag_bins = n->n_lag_bins,
                                            .n_gates = gates,
                                            .readout_size = n->readout_size,
                                            .excitation_range = n->excitation_range,
                                            .signal_range = n->signal_range,
                                            .first_lag = (float)n->shortest_lag,
                                            .log_lag_range = (float)n->log_lag_range};
    conditioner->mean = voice_floats(reader, M);
    conditioner->deviation = voice_floats(reader, M);
    for (int i = 0; i < N_LAYERS; i++) {
        const int64_t n_tiles = voice_padded(sizes[i].n_outputs, DENSE_WIDTH) / DENSE_WIDTH;
        const int64_t n_weights = n_tiles * (sizes[i].n_inputs + 1) * DENSE_WIDTH;
        conditioner->layers[i] =
            (struct dense_layer){voice_floats(reader, n_weights), n_tiles, sizes[i].n_inputs};
    }
}

static void voice_read_prediction(struct voice_reader *reader, const struct voice_numbers *n,
                                  struct lpc_tables *tables) {
    const int64_t M = n->n_mels, n_bins = n->n_fft / 2 + 1, n_lags = n->order + 1;
    *tables = (struct lpc_tables){.n_mels = M,
                                  .order = n->order,
                                  .n_bins = n_bins,
                                  .floor = n->spectrum_floor,
                                  .window_energy = n->window_energy,
                                  .is_power = n->is_power};
    tables->band = voice_indices(reader, n_bins, 0, M - 1);
    tables->lower = voice_doubles(reader, n_bins);
    tables->upper = voice_doubles(reader, n_bins);
    tables->inverse = voice_doubles(reader, M * M);
    tables->weight = voice_doubles(reader, n_bins);
    tables->cosines = voice_doubles(reader, n_lags * ((n_bins - 1) / 2 + 1));
    tables->lag_window = voice_doubles(reader, n_lags);
}

// A transform's tables, whose factors must have its number of complex numbers as their product.
static struct fft_plan voice_read_plan(struct voice_reader *reader, int64_t size) {
    struct fft_plan plan = {.size = size};
    plan.factor = voice_take_some(reader, sizeof(int64_t), &plan.n_factors);
    voice_require(reader, plan.n_factors <= VOICE_MOST_FACTORS);
    int64_t product = 1;
    for (int64_t i = 0; reader->is_sound && i < plan.n_factors; i++) {
        voice_require(reader, voice_is_within(plan.factor[i], 2, size));
        product = product > size ? product : product * plan.factor[i];
    }
    voice_require(reader, product == size / 2);
    plan.turns = voice_floats(reader, 2 * size);
    return plan;
}

// The rows of a filterbank, end to end. Their lengths are no numbers to add up before they were found to be sound.
static const float *voice_read_rows(struct voice_reader *reader, const int64_t *lengths, int64_t n_mels) {
    int64_t n = 0;
    for (int64_t m = 0; reader->is_sound && m < n_mels; m++)
        n += lengths[m];
    return voice_floats(reader, n);
}

// The tables of fft_one.h for a size; the five arrays are empty where it does not fit.
static struct fft_one_plan voice_read_one_plan(struct voice_reader *reader, int64_t size, bool fits) {
    struct fft_one_plan plan = {.parts.size = 0};
    for (int i = 0; i < 5 && !fits; i++)
        voice_take(reader, 1, 0);
    if (fits) {
        plan.parts = voice_read_plan(reader, size / 8);
        plan.twists = voice_floats(reader, size);
        plan.cosines = voice_floats(reader, size / 2 + 1);
        plan.sines = voice_floats(reader, size / 2 + 1);
    }
    return plan;
}

// The low end; all sizes are 0 where there is none.
static void voice_read_low_end(struct voice_reader *reader, const struct voice_numbers *n,
                               struct correction_low *low) {
    const int64_t d = n->low_division, size = d ? n->n_fft / d : 0, width = d ? n->window_samples / d : 0;
    const int64_t n_mels = n->n_low_bands, n_bins = d ? size / 2 + 1 : 0, row = correction_padded(n_bins);
    *low = (struct correction_low){.windows.hop = d ? n->hop_samples / d : 0,
                                   .windows.width = width,
                                   .n_fft = size,
                                   .n_mels = n_mels,
                                   .n_rounds = n->n_low_rounds,
                                   .limit = (float)n->low_limit,
                                   .momentum = (float)n->low_momentum,
                                   .unit = (float)(n->is_power ? d * d : d)};
    low->fft = voice_read_one_plan(reader, size, d > 0);
    low->windows.window = voice_floats(reader, width);
    low->filters = voice_floats(reader, row * correction_padded(n_mels));
    low->shares = voice_floats(reader, n_mels * row);
    low->covered = voice_floats(reader, n_bins);
}

static void voice_read_correction(struct voice_reader *reader, const struct voice_numbers *n,
                                  struct correction_plan *plan) {
    enum { VECTOR = 8 };
    const int64_t M = n->n_mels, size = n->n_fft, n_bins = size / 2 + 1, hop = n->hop_samples;
    // From a window's beginning to its frame's; the middle of an odd hop is early.
    const int64_t before = size / 2 - hop / 2 - (size - n->window_samples) / 2;
    const int64_t reach = voice_padded(n->window_samples - before - hop, hop) / hop;
    const int64_t n_open = 1 + voice_padded(before, hop) / hop;
    *plan = (struct correction_plan){
        .mel = {.hop = hop, .width = n->window_samples, .n_mels = M, .is_power = n->is_power},
        .n_open = n_open,
        .reach = reach,
        .before = before,
        .n_audio = (n_open + reach) * hop + before,
        .exponent = (float)n->correction_exponent,
        .log_limit = (float)n->correction_log_limit,
        .full = (float)n->correction_full,
        .silent = (float)n->correction_silent,
        .floor = (float)n->log_floor,
        .contrast_of_bands = (float)n->contrast_of_bands,
        .contrast_of_frames = (float)n->contrast_of_frames,
        .contrast_limit = (float)n->contrast_limit};
    struct mel_analysis *mel = &plan->mel;
    mel->fft = voice_read_plan(reader, size);
    mel->window = voice_floats(reader, n->window_samples);
    mel->first_bin = voice_indices(reader, M, 0, n_bins - 1);
    mel->length = voice_indices(reader, M, 0, n_bins);
    mel->filters = voice_read_rows(reader, mel->length, M);
    plan->fft = voice_read_one_plan(reader, size, size % VOICE_ONE_FFT == 0);
    plan->length = voice_indices(reader, M, 0, n_bins + VECTOR - 1);
    plan->filters = voice_read_rows(reader, plan->length, M);
    plan->shares = voice_read_rows(reader, plan->length, M);
    for (int64_t m = 0; reader->is_sound && m < M; m++) { // the low end's bands have none of its highest bin
        const int64_t end = m < n->n_low_bands ? size / n->low_division / 2 : n_bins, length = mel->length[m];
        voice_require(reader,
                      mel->first_bin[m] + length <= end && plan->length[m] == voice_padded(length, VECTOR));
    }
    voice_read_low_end(reader, n, &plan->low);
}

static void voice_tell_facts(struct gru_audio_voice *voice) {
    const struct voice_numbers *n = voice->numbers;
    const bool corrects = n->window_samples >= 2 * n->hop_samples;
    voice->facts = (struct gru_audio_facts){
        .sample_rate_hz = n->sample_rate_hz,
        .hop_samples = n->hop_samples,
        .n_mels = n->n_mels,
        .context_frames = CONTEXT_FRAMES,
        .correction_frames = corrects ? voice->correction.n_open - 1 + voice->correction.reach : 0,
        .usual = {.temperature = n->temperature, .corrections = corrects ? n->n_corrections : 0}};
}

static enum gru_audio_status voice_open(const uint8_t *file, size_t n_bytes, struct gru_audio_voice *voice) {
    enum { BEGINNING = sizeof(struct voice_header) + sizeof(struct voice_numbers) };
    struct voice_header header;
    if (n_bytes < sizeof header || memcmp(file, VOICE_MAGIC, sizeof VOICE_MAGIC) != 0)
        return GRU_AUDIO_NO_VOICE;
    memcpy(&header, file, sizeof header);
    if (header.version != VOICE_VERSION)
        return GRU_AUDIO_OTHER_VERSION;
    if (header.n_bytes != n_bytes || n_bytes < BEGINNING + VOICE_N_ARRAYS * sizeof(struct voice_place))
        return GRU_AUDIO_CUT;
    if (header.checksum != voice_checksum(file + sizeof header, n_bytes - sizeof header))
        return GRU_AUDIO_DAMAGED;
    const struct voice_numbers *n = (const void *)(file + sizeof header);
    if (!voice_numbers_are_sound(n))
        return GRU_AUDIO_BAD_NUMBER;
    struct voice_reader reader = {file, n_bytes, (const void *)(file + BEGINNING), true};
    voice->numbers = n;
    voice->checksum = header.checksum;
    voice->scale = (struct mel_scale){(float)n->log_unit, (float)n->log_scale, (float)n->log_offset,
                                      (float)n->log_floor};
    voice_read_network(&reader, n, &voice->network);
    voice->group_means = voice_floats(&reader, MEAN_GROUPS);
    voice_read_conditioner(&reader, n, &voice->conditioner);
    voice_read_prediction(&reader, n, &voice->prediction);
    voice_read_correction(&reader, n, &voice->correction);
    voice_tell_facts(voice);
    return reader.is_sound ? GRU_AUDIO_OK : GRU_AUDIO_BAD_NUMBER;
}

#endif
