// From the bytes of an exported voice to what the core's loops take; see voice_file.h.
#ifndef GRU_VOICE_OPEN_H
#define GRU_VOICE_OPEN_H

#include "gru_audio.h"
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

// One over the units of rows: what inputs are multiplied by.
static const float *voice_factors(struct voice_reader *reader, int which, int64_t n) {
    const float *factors = voice_floats(reader, which, n);
    for (int64_t i = 0; factors && i < n; i++)
        voice_require(reader, factors[i] >= 0.0f && factors[i] <= VOICE_LARGEST_FACTOR);
    return factors;
}

// Columns of blocks, whose four activations lie within the state's; the four numbers behind them are fetched only.
static const uint16_t *voice_columns(struct voice_reader *reader, int64_t n, int64_t n_units) {
    const uint16_t *columns = voice_take(reader, VOICE_COLUMNS, sizeof *columns, n + FOUR_COLUMNS);
    for (int64_t i = 0; columns && i < n + FOUR_COLUMNS; i++)
        voice_require(reader, columns[i] <= n_units - FOUR_COLUMNS);
    return columns;
}

// The same of the readout's blocks, within a quad's.
static const uint8_t *voice_readout_columns(struct voice_reader *reader, int64_t n) {
    const uint8_t *columns = voice_take(reader, VOICE_READOUT_COLUMNS, 1, n);
    for (int64_t i = 0; columns && i < n; i++)
        voice_require(reader, columns[i] <= QUAD_UNITS - FOUR_COLUMNS);
    return columns;
}

static void voice_read_network(struct voice_reader *reader, const struct voice_numbers *n,
                               struct gru_int8_network *network) {
    const int64_t S = n->samples_per_step, Q = (int64_t)1 << n->bits;
    const int64_t n_pairs = voice_padded(n->gru_size, PAIR_UNITS) / PAIR_UNITS;
    const int64_t n_units = voice_padded(n->gru_size, QUAD_UNITS),
                  n_rows = voice_padded(n->readout_size, QUAD_UNITS);
    const int64_t n_groups = voice_padded(n->readout_size, GROUP_UNITS) / GROUP_UNITS;
    const int64_t n_blocks = 2 * n_pairs * (n->n_reset_blocks + n->n_update_blocks + n->n_new_blocks);
    const int64_t n_readout_parts = n->n_readout_blocks == 2 * PAIR_FOURS
                                        ? n_pairs * PAIR_FOURS
                                        : n_units / QUAD_UNITS * n->n_readout_blocks;
    const int64_t n_readout_blocks = n_readout_parts * S * n_groups;
    const int64_t n_step_tables = n->order ? 2 * S + 2 : S, n_readout_tables = n->order ? S + 3 : S;
    int64_t n_subtrees = 0;
    for (int64_t top = 0; top < n->bits; top += SUBTREE_BITS)
        n_subtrees += (int64_t)1 << top;
    *network = (struct gru_int8_network){
        .gru_size = n->gru_size,
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
        .blocks = voice_take(reader, VOICE_BLOCKS, INT8_BLOCK_BYTES, n_blocks),
        .columns = voice_columns(reader, n_blocks, n_units),
        .gate_units = voice_floats(reader, VOICE_GATE_UNITS, 3 * n_units),
        .own_weights = voice_take(reader, VOICE_OWN_WEIGHTS, sizeof(int16_t), 3 * n_units),
        .step_tables = voice_take(reader, VOICE_STEP_TABLES, 1, n_step_tables * Q * 3 * n_units),
        .gate_factors = voice_factors(reader, VOICE_GATE_FACTORS, 3 * n_units),
        .gate_sums = voice_take(reader, VOICE_GATE_SUMS, sizeof(int32_t), 3 * n_units),
        .new_bias = voice_take(reader, VOICE_NEW_BIAS, sizeof(int32_t), n_units),
        .readout_blocks = voice_take(reader, VOICE_READOUT_BLOCKS, INT8_BLOCK_BYTES, n_readout_blocks),
        .readout_columns = voice_readout_columns(reader, n_readout_blocks),
        .readout_units = voice_floats(reader, VOICE_READOUT_UNITS, n_rows),
        .readout_tables = voice_take(reader, VOICE_READOUT_TABLES, 1, n_readout_tables * Q * n_rows),
        .readout_factors = voice_factors(reader, VOICE_READOUT_FACTORS, n_rows),
        .readout_sums = voice_take(reader, VOICE_READOUT_SUMS, sizeof(int32_t), S * n_rows),
        .readout_bias = voice_take(reader, VOICE_READOUT_BIAS, sizeof(int32_t), S * n_rows),
        .readout_input_limit = (float)n->readout_input_limit,
        .tree_blocks = voice_take(reader, VOICE_TREE_BLOCKS, INT8_BLOCK_BYTES, n_subtrees * n_groups * 4),
        .tree_units = voice_floats(reader, VOICE_TREE_UNITS, n_subtrees * SUBTREE_NODES),
        .tree_bias = voice_floats(reader, VOICE_TREE_BIAS, n_subtrees * SUBTREE_NODES),
        .edges = voice_take(reader, VOICE_EDGES, sizeof(float), Q),
        .expansion = voice_floats(reader, VOICE_EXPANSION, Q),
        .first_codes = voice_take(reader, VOICE_FIRST_CODES, sizeof(int16_t), n->n_buckets),
        .n_buckets = n->n_buckets,
        .bucket_bits = n->bucket_bits,
        .preemphasis = (float)n->preemphasis};
    for (int64_t i = 0; reader->is_sound && i < n->n_buckets; i++)
        voice_require(reader, voice_is_within(network->first_codes[i], 0, Q - 1));
    voice_require(reader, network->edges &&
                              network->edges[Q - 1] != network->edges[Q - 1]); // NaN: no code is above it
}

static struct dense_layer voice_layer(struct voice_reader *reader, enum frame_layer which, int64_t n_outputs,
                                      int64_t n_inputs) {
    const int64_t n_tiles = voice_padded(n_outputs, DENSE_WIDTH) / DENSE_WIDTH;
    const int64_t n = n_tiles * (n_inputs + 1) * DENSE_WIDTH;
    return (struct dense_layer){voice_floats(reader, VOICE_LAYERS + (int)which, n), n_tiles, n_inputs};
}

static void voice_read_conditioner(struct voice_reader *reader, const struct voice_numbers *n,
                                   struct gru_conditioner *conditioner) {
    const int64_t M = n->n_mels, C = voice_padded(n->conditioning_size, DENSE_WIDTH);
    const int64_t predicts = n->order > 0, K = predicts ? voice_padded(n->pitch_size, DENSE_WIDTH) : 0;
    *conditioner = (struct gru_conditioner){
        .n_mels = M,
        .n_lag_bins = n->n_lag_bins,
        .n_gates = 3 * n->gru_size,
        .readout_size = n->readout_size,
        .excitation_range = n->excitation_range,
        .signal_range = n->signal_range,
        .first_lag = (float)n->shortest_lag,
        .log_lag_range = (float)n->log_lag_range,
        .mean = voice_floats(reader, VOICE_MEL_MEAN, M),
        .deviation = voice_floats(reader, VOICE_MEL_DEVIATION, M),
        .layers = {voice_layer(reader, LAYER_PITCH_FIRST, K, predicts * 3 * M),
                   voice_layer(reader, LAYER_PITCH_SECOND, K, 3 * K),
                   voice_layer(reader, LAYER_PITCH_OUTPUT, predicts * (n->n_lag_bins + 1), K),
                   voice_layer(reader, LAYER_FIRST, C, 3 * M), voice_layer(reader, LAYER_SECOND, C, 3 * C),
                   voice_layer(reader, LAYER_THIRD, C, C + 2), voice_layer(reader, LAYER_FOURTH, C, C),
                   voice_layer(reader, LAYER_GATES, 3 * n->gru_size, C),
                   voice_layer(reader, LAYER_READOUT, n->readout_size, C)}};
}

static void voice_read_prediction(struct voice_reader *reader, const struct voice_numbers *n,
                                  struct lpc_tables *tables) {
    const int64_t M = n->n_mels, n_bins = n->n_fft / 2 + 1, n_lags = n->order + 1;
    *tables = (struct lpc_tables){
        .n_mels = M,
        .order = n->order,
        .n_bins = n_bins,
        .floor = n->spectrum_floor,
        .window_energy = n->window_energy,
        .is_power = n->is_power,
        .band = voice_indices(reader, VOICE_PREDICTION_BAND, n_bins, 0, M - 1),
        .lower = voice_doubles(reader, VOICE_PREDICTION_LOWER, n_bins),
        .upper = voice_doubles(reader, VOICE_PREDICTION_UPPER, n_bins),
        .inverse = voice_doubles(reader, VOICE_PREDICTION_INVERSE, M * M),
        .weight = voice_doubles(reader, VOICE_PREDICTION_WEIGHT, n_bins),
        .cosines = voice_doubles(reader, VOICE_PREDICTION_COSINES, n_lags * ((n_bins - 1) / 2 + 1)),
        .lag_window = voice_doubles(reader, VOICE_PREDICTION_LAG_WINDOW, n_lags)};
}

// A transform's tables, whose factors must have its number of complex numbers as their product.
static struct fft_plan voice_read_plan(struct voice_reader *reader, int factors, int turns, int64_t size) {
    struct fft_plan plan = {.size = size};
    plan.factor = voice_take_some(reader, factors, sizeof(int64_t), &plan.n_factors);
    voice_require(reader, plan.n_factors <= VOICE_MOST_FACTORS);
    int64_t product = 1;
    for (int64_t i = 0; reader->is_sound && i < plan.n_factors; i++) {
        voice_require(reader, voice_is_within(plan.factor[i], 2, size));
        product = product > size ? product : product * plan.factor[i];
    }
    voice_require(reader, product == size / 2);
    plan.turns = voice_floats(reader, turns, 2 * size);
    return plan;
}

// The rows of a filterbank, end to end. Their lengths are no numbers to add up before they were found to be sound.
static const float *voice_read_rows(struct voice_reader *reader, int which, const int64_t *lengths,
                                    int64_t n_mels) {
    int64_t n = 0;
    for (int64_t m = 0; reader->is_sound && m < n_mels; m++)
        n += lengths[m];
    return voice_floats(reader, which, n);
}

// The tables of fft_one.h for a size, from array `first` on; they are empty where it does not fit.
static struct fft_one_plan voice_read_one_plan(struct voice_reader *reader, int first, int64_t size,
                                               bool fits) {
    enum { FACTORS, TURNS, TWISTS, COSINES, SINES, N_TABLES };
    for (int i = 0; i < N_TABLES && !fits; i++)
        voice_take(reader, first + i, 1, 0);
    if (!fits)
        return (struct fft_one_plan){.parts.size = 0};
    return (struct fft_one_plan){voice_read_plan(reader, first + FACTORS, first + TURNS, size / 8),
                                 voice_floats(reader, first + TWISTS, size),
                                 voice_floats(reader, first + COSINES, size / 2 + 1),
                                 voice_floats(reader, first + SINES, size / 2 + 1)};
}

// The low end; all sizes are 0 where there is none.
static struct correction_low voice_read_low_end(struct voice_reader *reader, const struct voice_numbers *n) {
    const int64_t d = n->low_division, size = d ? n->n_fft / d : 0, width = d ? n->window_samples / d : 0;
    const int64_t n_mels = n->n_low_bands, n_bins = d ? size / 2 + 1 : 0;
    return (struct correction_low){
        .fft = voice_read_one_plan(reader, VOICE_LOW_PART_FACTORS, size, d > 0),
        .windows = {voice_floats(reader, VOICE_LOW_WINDOW, width), d ? n->hop_samples / d : 0, width},
        .n_fft = size,
        .n_mels = n_mels,
        .n_rounds = n->n_low_rounds,
        .filters =
            voice_floats(reader, VOICE_LOW_FILTERS, correction_padded(n_bins) * correction_padded(n_mels)),
        .shares = voice_floats(reader, VOICE_LOW_SHARES, n_mels * correction_padded(n_bins)),
        .covered = voice_floats(reader, VOICE_LOW_COVERED, n_bins),
        .limit = (float)n->low_limit,
        .momentum = (float)n->low_momentum,
        .unit = (float)(n->is_power ? d * d : d),
        .full = (float)n->correction_full};
}

static void voice_read_correction(struct voice_reader *reader, const struct voice_numbers *n,
                                  struct correction_plan *plan) {
    enum { VECTOR = 8 };
    const int64_t M = n->n_mels, size = n->n_fft, n_bins = size / 2 + 1, hop = n->hop_samples;
    const int64_t *first = voice_indices(reader, VOICE_FIRST_BIN, M, 0, n_bins - 1);
    const int64_t *length = voice_indices(reader, VOICE_LENGTH, M, 0, n_bins);
    const int64_t *padded = voice_indices(reader, VOICE_BAND_LENGTH, M, 0, n_bins + VECTOR - 1);
    for (int64_t m = 0; reader->is_sound && m < M; m++) { // the low end's bands have none of its highest bin
        const int64_t end = m < n->n_low_bands ? size / n->low_division / 2 : n_bins;
        voice_require(reader, first[m] + length[m] <= end && padded[m] == voice_padded(length[m], VECTOR));
    }
    const int64_t before =
        (size - hop) / 2 - (size - n->window_samples) / 2; // from a window's beginning to its frame's
    const int64_t reach = voice_padded(n->window_samples - before - hop, hop) / hop;
    const int64_t n_open = 1 + voice_padded(before, hop) / hop;
    *plan = (struct correction_plan){
        .mel = {.fft = voice_read_plan(reader, VOICE_FFT_FACTORS, VOICE_FFT_TURNS, size),
                .hop = hop,
                .width = n->window_samples,
                .n_mels = M,
                .is_power = n->is_power,
                .window = voice_floats(reader, VOICE_WINDOW, n->window_samples),
                .first_bin = first,
                .length = length,
                .filters = voice_read_rows(reader, VOICE_FILTERS, length, M)},
        .fft = voice_read_one_plan(reader, VOICE_PART_FACTORS, size, size % VOICE_ONE_FFT == 0),
        .first_bin = first,
        .length = padded,
        .filters = voice_read_rows(reader, VOICE_BAND_FILTERS, padded, M),
        .shares = voice_read_rows(reader, VOICE_BAND_SHARES, padded, M),
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
        .contrast_limit = (float)n->contrast_limit,
        .low = voice_read_low_end(reader, n)};
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
    voice_read_conditioner(&reader, n, &voice->conditioner);
    voice_read_prediction(&reader, n, &voice->prediction);
    voice_read_correction(&reader, n, &voice->correction);
    voice->group_means = voice_floats(&reader, VOICE_GROUP_MEANS, MEAN_GROUPS);
    voice_tell_facts(voice);
    return reader.is_sound ? GRU_AUDIO_OK : GRU_AUDIO_BAD_NUMBER;
}

#endif
