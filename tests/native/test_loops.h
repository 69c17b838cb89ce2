// The sample loops: in pieces the same bits as in one.
#ifndef TEST_LOOPS_H
#define TEST_LOOPS_H

#include "made_up.h"

enum { LOOP_FRAMES = 6, LOOP_HOP = 40, LOOP_PAST = 30, LOOP_SAMPLES = LOOP_FRAMES * LOOP_HOP, LOOP_RUNS = 3 };

// A sample loop, and what calls it with its network and room; sizes as in struct gru_block.
struct loop {
    const char *name;
    const void *network;
    void *room;
    int64_t size, readout_size, order;
    bool is_shaped;
    void (*generate)(const struct loop *loop, const struct gru_block *block);
};

struct loop_results {          // by run
    int64_t *codes[LOOP_RUNS]; // from the first sample on
    float *audio[LOOP_RUNS], *probability[LOOP_RUNS];
};

static float *repeated(int64_t n, float value) {
    float *numbers = zeros(n);
    for (int64_t i = 0; i < n; i++)
        numbers[i] = value;
    return numbers;
}

// A loop over made-up frames: in one piece; in two; and, if not shaped, with what was drawn given.
static struct loop_results run_loop(const struct loop *loop) {
    const int64_t H = loop->size, R = loop->readout_size, P = loop->order;
    struct loop_results results = {0};
    float *uniforms = zeros(LOOP_SAMPLES), *scale = repeated(LOOP_FRAMES, 0.2f);
    int64_t *lags = whole(LOOP_FRAMES);
    for (int i = 0; i < LOOP_SAMPLES; i++)
        uniforms[i] = uniform();
    for (int f = 0; f < LOOP_FRAMES; f++)
        lags[f] = f % 2 && P ? 11 + f : 0;
    const float *gates = normals(LOOP_FRAMES * 3 * H, 1.0f), *inputs = normals(LOOP_FRAMES * R, 1.0f);
    const float *coefficients = normals(LOOP_FRAMES * P, 0.1f), *group_means = normals(MEAN_GROUPS, 0.3f);
    for (int run = 0; run < (loop->is_shaped ? 2 : LOOP_RUNS); run++) {
        const int64_t n_frames = run == 1 ? LOOP_FRAMES / 2 : LOOP_FRAMES;
        int64_t *codes = whole(LOOP_PAST + LOOP_SAMPLES);
        float *audio = zeros(LOOP_SAMPLES), *probability = zeros(LOOP_SAMPLES),
              *rebuilt = zeros(P + LOOP_SAMPLES);
        float *last_audio = zeros(1), *hidden = zeros(H), *noise = zeros(3);
        for (int64_t f = 0; f < LOOP_FRAMES; f += n_frames) {
            const struct gru_block block = {.n_frames = n_frames,
                                            .hop = LOOP_HOP,
                                            .n_past = LOOP_PAST,
                                            .gate_inputs = gates + f * 3 * H,
                                            .readout_inputs = inputs + f * R,
                                            .coefficients = coefficients + f * P,
                                            .excitation_scale = scale,
                                            .signal_scale = scale,
                                            .lags = lags + f,
                                            .uniforms = uniforms + f * LOOP_HOP,
                                            .forced = results.codes[0],
                                            .n_forced = run == 2 ? LOOP_SAMPLES : 0,
                                            .temperature = 0.9f,
                                            .tail_cut = 0.01f,
                                            .shaping = {.is_on = loop->is_shaped,
                                                        .taps = {0.6f, 0.3f, 0.1f},
                                                        .voiced_temperature = 0.7f,
                                                        .noise = noise,
                                                        .group_means = group_means},
                                            .hidden = hidden,
                                            .codes = codes + f * LOOP_HOP,
                                            .rebuilt = rebuilt + f * LOOP_HOP,
                                            .last_audio = last_audio,
                                            .probability = probability + f * LOOP_HOP,
                                            .audio = audio + f * LOOP_HOP};
            loop->generate(loop, &block);
        }
        results.codes[run] = codes + LOOP_PAST;
        results.audio[run] = audio;
        results.probability[run] = probability;
        expect(loop->name, !memcmp(results.audio[0], audio, LOOP_SAMPLES * sizeof *audio));
        expect(loop->name, !memcmp(results.codes[0], codes + LOOP_PAST, LOOP_SAMPLES * sizeof *codes));
    }
    return results;
}

// In float32, with each code's probability.

enum { FLOAT32_SIZE = 20, FLOAT32_PADDED = 32, FLOAT32_READOUT = 12, FLOAT32_CLASSES = 64 };

static struct gru_float32_blocks blocks_of(int64_t n_groups, int64_t n_columns) {
    const int64_t n_blocks = n_groups * n_columns / 4;
    int64_t *ends = whole(n_groups), *columns = whole(n_blocks), n = 0;
    for (int64_t group = 0; group < n_groups; group++) {
        for (int64_t column = 0; column < n_columns; column += 4)
            if (random_bits() % 3)
                columns[n++] = column;
        ends[group] = n;
    }
    return (struct gru_float32_blocks){ends, columns, normals(64 * n, 0.2f)};
}

static void generate_float32(const struct loop *loop, const struct gru_block *block) {
    gru_float32_generate(loop->network, block, loop->room);
}

static void test_float32(int64_t n_samples, int64_t order, bool is_shaped) {
    const int64_t n_tables = n_samples + (order ? n_samples + 2 : 0), n_rows = n_tables * FLOAT32_CLASSES;
    const struct gru_float32_network network = {.gru_size = FLOAT32_SIZE,
                                                .readout_size = FLOAT32_READOUT,
                                                .samples_per_step = n_samples,
                                                .order = order,
                                                .n_classes = FLOAT32_CLASSES,
                                                .recurrent = blocks_of(3 * FLOAT32_PADDED / 16, FLOAT32_SIZE),
                                                .readout = blocks_of(n_samples, FLOAT32_SIZE),
                                                .step_tables = normals(n_rows * 3 * FLOAT32_PADDED, 0.5f),
                                                .new_bias = normals(FLOAT32_PADDED, 0.2f),
                                                .readout_bias = normals(n_samples * 16, 0.3f),
                                                .readout_tables = normals(n_rows * 16, 0.3f),
                                                .output = normals((FLOAT32_CLASSES - 1) * 16, 0.5f),
                                                .output_bias = normals(FLOAT32_CLASSES - 1, 0.3f),
                                                .edges = mu_law_edges(FLOAT32_CLASSES),
                                                .expansion = mu_law_expansion(FLOAT32_CLASSES),
                                                .preemphasis = 0.85f};
    float *scratch = zeros(5 * FLOAT32_PADDED + (n_samples + 2) * 16);
    const struct loop loop = {"float32",       &network, scratch,   FLOAT32_SIZE,
                              FLOAT32_READOUT, order,    is_shaped, generate_float32};
    const struct loop_results results = run_loop(&loop);
    for (int run = 1; run < LOOP_RUNS && results.audio[run]; run++)
        expect("float32",
               !memcmp(results.probability[0], results.probability[run], LOOP_SAMPLES * sizeof(float)));
    for (int t = 0; t < LOOP_SAMPLES; t++)
        expect("float32", results.probability[0][t] > 0.0f && results.probability[0][t] <= 1.0f &&
                              results.codes[0][t] >= 0 && results.codes[0][t] < FLOAT32_CLASSES);
}

// The sample loop in int8: every set draws the same samples.

enum { INT8_PAIRS = 9, INT8_SIZE = INT8_PAIRS * PAIR_UNITS, INT8_PADDED = 320, INT8_READOUT = 32 };
enum { INT8_READOUT_PADDED = QUAD_UNITS };

// Bytes that add_two_products can add in 16 bits.
static int8_t *small_bytes(int64_t n) {
    int8_t *bytes = take((size_t)n);
    for (int64_t i = 0; i < n; i++)
        bytes[i] = (int8_t)(random_bits() % 121 - 60);
    return bytes;
}
static int32_t *whole_32(int64_t n) {
    return take((size_t)n * sizeof(int32_t));
}

// Adds each of a block's 16 rows up.
static void sum_rows_of_block(const int8_t *block, int32_t *rows) {
    for (int i = 0; i < INT8_BLOCK_BYTES; i++)
        rows[i / FOUR_COLUMNS] += block[i];
}

// The first code of each bucket of floats, as packing.py makes it.
static int16_t *first_codes_of(int64_t n_classes, int64_t bucket_bits, const float *edges,
                               int64_t *n_buckets) {
    const int64_t n_positive = (0x3F800000 >> bucket_bits) + 1;
    int16_t *codes = take((size_t)(2 * n_positive) * sizeof *codes);
    *n_buckets = 2 * n_positive;
    for (int64_t i = 1 - n_positive; i < n_positive; i++) {
        const int32_t ordered = (int32_t)((uint32_t)i << bucket_bits);
        const int32_t bits = ordered >= 0 ? ordered : ordered ^ 0x7FFFFFFF;
        float least;
        memcpy(&least, &bits, sizeof least);
        codes[i + n_positive] = (int16_t)code_of(least, edges, (int32_t)n_classes);
    }
    return codes;
}

// Of 16 rows of the readout, `n_read` blocks of each quad's columns are left; all 16 of them lie by pairs.
static struct gru_int8_network int8_network_of(int64_t n_samples, int64_t order, int64_t bits,
                                               int64_t n_read) {
    enum { COUNT = 5, BLOCKS_A_PAIR = 3 * COUNT * 2, N_BLOCKS = INT8_PAIRS * BLOCKS_A_PAIR };
    const int64_t n_tables = n_samples + (order ? n_samples + 2 : 0), n_classes = 1 << bits;
    const int64_t n_groups = INT8_READOUT / GROUP_UNITS,
                  n_parts = n_read == 2 * PAIR_FOURS ? INT8_PAIRS : INT8_PADDED / QUAD_UNITS,
                  n_of_part = n_read == 2 * PAIR_FOURS ? PAIR_FOURS : n_read,
                  n_readout_blocks = n_parts * n_samples * n_groups * n_of_part;
    const int64_t n_subtrees = bits > 8 ? 1 + 16 + 256 : 1 + 16, n_sums = n_samples * INT8_READOUT_PADDED;
    int8_t *blocks = small_bytes(N_BLOCKS * INT8_BLOCK_BYTES);
    int8_t *readout_blocks = small_bytes(n_readout_blocks * INT8_BLOCK_BYTES);
    uint16_t *columns = take(N_BLOCKS * sizeof *columns);
    uint8_t *readout_columns = take((size_t)n_readout_blocks);
    int32_t *gate_sums = whole_32(3 * INT8_PADDED), *readout_sums = whole_32(n_sums);
    for (int64_t i = 0; i < N_BLOCKS; i++) { // by pair, gate, block, group of the pair
        const int64_t gate = i % BLOCKS_A_PAIR / (2 * COUNT), group = i / BLOCKS_A_PAIR * 2 + i % 2;
        columns[i] = (uint16_t)(random_bits() % (INT8_SIZE / FOUR_COLUMNS) * FOUR_COLUMNS);
        sum_rows_of_block(blocks + INT8_BLOCK_BYTES * i,
                          gate_sums + gate * INT8_PADDED + group * GROUP_UNITS);
    }
    for (int64_t i = 0; i < n_readout_blocks; i++) { // by part, sample, group, block
        const int64_t group = i / n_of_part % n_groups, sample = i / n_of_part / n_groups % n_samples;
        const bool is_half =
            i / n_of_part / n_groups / n_samples == INT8_PAIRS / 2; // the last quad has one pair
        readout_columns[i] =
            (uint8_t)(random_bits() % (is_half ? PAIR_FOURS : 2 * PAIR_FOURS) * FOUR_COLUMNS);
        sum_rows_of_block(readout_blocks + INT8_BLOCK_BYTES * i,
                          readout_sums + sample * INT8_READOUT_PADDED + group * GROUP_UNITS);
    }
    float *gate_units = zeros(INT8_PADDED * 3);
    int16_t *own_weights = take(INT8_PADDED * 3 * sizeof *own_weights);
    for (int64_t i = 0; i < INT8_PADDED * 3; i++) {
        gate_units[i] = 0.08f + 0.08f * uniform();
        own_weights[i] = (int16_t)(random_bits() % 4001 - 2000);
    }
    float *edges = zeros(n_classes), *plain_edges = mu_law_edges(n_classes);
    memcpy(edges, plain_edges, (size_t)(n_classes - 1) * sizeof *edges);
    edges[n_classes - 1] = NAN;
    struct gru_int8_network network = {
        .gru_size = INT8_SIZE,
        .readout_size = INT8_READOUT,
        .samples_per_step = n_samples,
        .order = order,
        .bits = bits,
        .n_pairs = INT8_PAIRS,
        .n_readout_groups = n_groups,
        .n_reset_blocks = COUNT,
        .n_update_blocks = COUNT,
        .n_new_blocks = COUNT,
        .n_readout_blocks = n_read,
        .blocks = blocks,
        .columns = columns,
        .gate_units = gate_units,
        .own_weights = own_weights,
        .step_tables = small_bytes(n_tables * n_classes * 3 * INT8_PADDED),
        .gate_factors = repeated(3 * INT8_PADDED, 3e4f),
        .gate_sums = gate_sums,
        .new_bias = whole_32(INT8_PADDED),
        .readout_blocks = readout_blocks,
        .readout_columns = readout_columns,
        .readout_units = repeated(INT8_READOUT_PADDED, 0.05f),
        .readout_tables = small_bytes(n_tables * n_classes * INT8_READOUT_PADDED),
        .readout_factors = repeated(INT8_READOUT_PADDED, 1e4f),
        .readout_sums = readout_sums,
        .readout_bias = whole_32(n_sums),
        .readout_input_limit = 100.0f,
        .tree_blocks = small_bytes(n_subtrees * 4 * n_groups * INT8_BLOCK_BYTES),
        .tree_units = repeated(n_subtrees * 16, 3e-7f),
        .tree_bias = normals(n_subtrees * 16, 0.3f),
        .edges = edges,
        .expansion = mu_law_expansion(n_classes),
        .bucket_bits = 26 - bits,
        .preemphasis = 0.85f};
    network.first_codes = first_codes_of(n_classes, network.bucket_bits, plain_edges, &network.n_buckets);
    return network;
}

static struct gru_int8_room int8_room_of(int64_t n_samples) {
    const int64_t n_starts = INT8_STARTS * INT8_PADDED;
    const int64_t n_readouts = n_samples * INT8_READOUT_PADDED;
    return (struct gru_int8_room){.hidden = take(INT8_PADDED * sizeof(int16_t)),
                                  .activations = take(INT8_PADDED),
                                  .sums = whole_32(3 * INT8_PADDED),
                                  .starts = whole_32(n_starts),
                                  .next_starts = whole_32(n_starts),
                                  .readout_starts = whole_32(n_readouts),
                                  .next_readout_starts = whole_32(n_readouts),
                                  .readout_sums = whole_32(n_readouts),
                                  .row = take(2 * INT8_READOUT_PADDED)};
}

static void generate_int8(const struct loop *loop, const struct gru_block *block) {
    gru_int8_generate(loop->network, block, loop->room);
}

static void test_int8(int64_t n_samples, int64_t order, int64_t bits, int64_t n_read, bool is_shaped) {
    const struct gru_int8_network network = int8_network_of(n_samples, order, bits, n_read);
    struct gru_int8_room room = int8_room_of(n_samples);
    const struct loop loop = {"int8",       &network, &room,     INT8_SIZE,
                              INT8_READOUT, order,    is_shaped, generate_int8};
    const struct loop_results results = run_loop(&loop);
    int n_alike = 0;
    for (int t = 0; t < LOOP_SAMPLES; t++) {
        expect("int8", results.codes[0][t] >= 0 && results.codes[0][t] < 1 << bits);
        n_alike += results.codes[0][t] == results.codes[0][0];
    }
    expect("int8", n_alike < LOOP_SAMPLES / 4);
    digest_floats("int8", results.audio[0], LOOP_SAMPLES);
}

// Each instruction set's products of bytes are the portable ones.
static void test_byte_products(void) {
    for (int i = 0; i < 100; i++) {
        const int8_t *blocks = small_bytes(2 * INT8_BLOCK_BYTES), *fours = small_bytes(2 * FOUR_COLUMNS);
        int8_t stored[2 * FOUR_COLUMNS];
        for (int k = 0; k < 2 * FOUR_COLUMNS; k++)
            stored[k] = (int8_t)(fours[k] + ACTIVATION_OFFSET);
        const i32x16 start = all_i32x16((int32_t)random_bits());
        const i8x64 a = load_i8x64(blocks), b = load_i8x64(blocks + INT8_BLOCK_BYTES);
        const int32_t four = load_four(stored), next = load_four(stored + FOUR_COLUMNS);
        int32_t expected[16], found[16];
        const i32x16 first = portable_add_product(start, four, a);
        store_i32x16(expected, first);
        store_i32x16(found, add_product(start, four, a));
        expect("byte products", !memcmp(expected, found, sizeof found));
        store_i32x16(expected, portable_add_product(first, next, b));
        store_i32x16(found, total(add_two_products((struct running_sums){start, {0}}, four, a, next, b)));
        expect("byte products", !memcmp(expected, found, sizeof found));
        give_back_all();
    }
}

#endif
