// Training: against the formulas, in doubles; these sums may differ in their last bits from set to set.
#ifndef TEST_TRAINING_H
#define TEST_TRAINING_H

#include "made_up.h"

static double plain_sigmoid(double x) {
    return 1.0 / (1.0 + exp(-x));
}

enum { SCAN_BATCH = 3, SCAN_SIZE = 21 };

// One step without a product: the state after it, and the sum of all its numbers.
static double scan_once(const float *gates, const float *biases, const float *before, float *state) {
    enum { NUMBERS = SCAN_BATCH * SCAN_SIZE };
    float *own_gates = zeros(3 * NUMBERS), *hidden = zeros(2 * NUMBERS), *product = zeros(3 * NUMBERS);
    memcpy(own_gates, gates, 3 * NUMBERS * sizeof *gates);
    memcpy(state, before, NUMBERS * sizeof *before);
    const struct gru_scan scan = {.n_steps = 1,
                                  .n_batch = SCAN_BATCH,
                                  .size = SCAN_SIZE,
                                  .gates = own_gates,
                                  .hidden = hidden,
                                  .biases = biases,
                                  .state = state};
    gru_gates_forward(&scan, 0, product);
    double sum = 0.0;
    for (int i = 0; i < NUMBERS; i++)
        sum += state[i];
    return sum;
}

static void test_scan(void) {
    enum { B = SCAN_BATCH, H = SCAN_SIZE, NUMBERS = B * H };
    float *gates = normals(3 * NUMBERS, 1.0f), *biases = normals(4 * H, 0.5f),
          *before = normals(NUMBERS, 0.5f);
    float *state = zeros(NUMBERS), *above = zeros(NUMBERS), *kept = zeros(3 * NUMBERS);
    scan_once(gates, biases, before, state);
    for (int b = 0; b < B; b++)
        for (int j = 0; j < H; j++) {
            const float *row = gates + 3 * H * b;
            const double r = plain_sigmoid(row[j] + biases[j]), z = plain_sigmoid(row[H + j] + biases[H + j]);
            const double new = tanh(row[2 * H + j] + biases[2 * H + j] + r * biases[3 * H + j]);
            expect("scan", fabs(new + z *(before[b * H + j] - new) - state[b * H + j]) < 1e-5);
        }
    float *hidden = zeros(2 * NUMBERS), *own = zeros(NUMBERS), *grad_biases = zeros(4 * H);
    memcpy(kept, gates, 3 * NUMBERS * sizeof *gates);
    memcpy(hidden, before, NUMBERS * sizeof *before);
    memcpy(own, before, NUMBERS * sizeof *before);
    for (int i = 0; i < NUMBERS; i++)
        above[i] = 1.0f;
    const struct gru_scan_back back = {.scan = {.n_steps = 1,
                                                .n_batch = B,
                                                .size = H,
                                                .gates = kept,
                                                .inner = zeros(NUMBERS),
                                                .hidden = hidden,
                                                .biases = biases,
                                                .state = own},
                                       .above = above,
                                       .grad_product = zeros(3 * NUMBERS),
                                       .grad_biases = grad_biases,
                                       .carried = zeros(NUMBERS)};
    gru_gates_forward(&back.scan, 0, zeros(3 * NUMBERS));
    gru_gates_backward(&back, 0, zeros(NUMBERS));
    for (int i = 0; i < 4 * H; i += 5) { // the slope by a difference
        const float bias = biases[i], step = 0.01f;
        biases[i] = bias + step;
        const double more = scan_once(gates, biases, before, state);
        biases[i] = bias - step;
        const double less = scan_once(gates, biases, before, state);
        biases[i] = bias;
        expect("scan back", fabs((more - less) / (2 * step) - grad_biases[i]) < 2e-3);
    }
}

static void test_rows(void) {
    enum { STEPS = 6, BATCH = 2, FRAMES = 3, ROWS = 4, WIDTH = 37, TABLE = 50 };
    int64_t *rows = random_codes(BATCH * STEPS * ROWS, TABLE);
    float *table = normals(TABLE * WIDTH, 1.0f), *frames = normals(BATCH * FRAMES * WIDTH, 1.0f);
    float *sums = zeros(STEPS * BATCH * WIDTH);
    struct gru_rows r = {.n_steps = STEPS,
                         .end = WIDTH,
                         .n_batch = BATCH,
                         .n_frames = FRAMES,
                         .n_rows = ROWS,
                         .width = WIDTH,
                         .rows = rows,
                         .table = table,
                         .frames = frames,
                         .sums = sums};
    gru_sum_rows(&r);
    for (int k = 0; k < STEPS; k++)
        for (int b = 0; b < BATCH; b++)
            for (int j = 0; j < WIDTH; j++) {
                double sum = frames[(b * FRAMES + k * FRAMES / STEPS) * WIDTH + j];
                for (int i = 0; i < ROWS; i++)
                    sum += table[rows[(b * STEPS + k) * ROWS + i] * WIDTH + j];
                expect("rows", fabs(sum - sums[(k * BATCH + b) * WIDTH + j]) < 1e-5);
            }
    float *grad_table = zeros(TABLE * WIDTH), *grad_frames = zeros(BATCH * FRAMES * WIDTH);
    r.table = grad_table;
    r.frames = grad_frames;
    gru_spread_rows(&r);
    double there = 0.0, back = 0.0; // <sums, sums> = <what was summed, its gradient>
    for (int i = 0; i < STEPS * BATCH * WIDTH; i++)
        there += (double)sums[i] * sums[i];
    for (int i = 0; i < TABLE * WIDTH; i++)
        back += (double)table[i] * grad_table[i];
    for (int i = 0; i < BATCH * FRAMES * WIDTH; i++)
        back += (double)frames[i] * grad_frames[i];
    expect("rows back", fabs(there - back) < 1e-4 * there);
}

static void test_tree_loss(void) {
    enum { SAMPLES = 8, BATCH = 2, FRAMES = 2, ROWS = 3, STRIDE = 2, SIZE = 37, BITS = 6, TABLE = 20 };
    enum { NODES = (1 << BITS) - 1, HIDDEN = SAMPLES * BATCH * SIZE };
    float *hidden = normals(HIDDEN, 0.5f), *weight = normals(NODES * SIZE, 0.3f),
          *bias = normals(NODES, 0.3f);
    float *frames = normals(BATCH * FRAMES * SIZE, 0.5f), *table = normals(TABLE * SIZE, 0.5f);
    int64_t *rows = random_codes(BATCH * SAMPLES * ROWS, TABLE),
            *codes = random_codes(BATCH * SAMPLES, NODES + 1);
    float *grad_bias = zeros(NODES);
    struct gru_tree_loss loss = {.n_samples = SAMPLES,
                                 .end = BATCH,
                                 .n_batch = BATCH,
                                 .n_frames = FRAMES,
                                 .n_rows = ROWS,
                                 .stride = STRIDE,
                                 .size = SIZE,
                                 .n_bits = BITS,
                                 .rows = rows,
                                 .codes = codes,
                                 .hidden = hidden,
                                 .frames = frames,
                                 .table = table,
                                 .weight = weight,
                                 .bias = bias,
                                 .grad_hidden = zeros(HIDDEN),
                                 .grad_frames = zeros(BATCH * FRAMES * SIZE),
                                 .grad_table = zeros(TABLE * SIZE),
                                 .grad_weight = zeros(NODES * SIZE),
                                 .grad_bias = grad_bias,
                                 .activation = zeros(SIZE)};
    const double found = gru_tree_loss(&loss);
    double expected = 0.0;
    for (int b = 0; b < BATCH; b++)
        for (int t = 0; t < SAMPLES; t++) {
            double row[SIZE];
            for (int j = 0; j < SIZE; j++) {
                row[j] = hidden[((t / STRIDE * BATCH + b) * STRIDE + t % STRIDE) * SIZE + j];
                row[j] += frames[(b * FRAMES + t * FRAMES / SAMPLES) * SIZE + j];
                for (int i = 0; i < ROWS; i++)
                    row[j] += table[rows[(b * SAMPLES + t) * ROWS + i] * SIZE + j];
            }
            for (int64_t level = BITS - 1, node = 0; level >= 0; level--) {
                const int64_t bit = codes[b * SAMPLES + t] >> level & 1;
                double logit = bias[node];
                for (int j = 0; j < SIZE; j++)
                    logit += weight[node * SIZE + j] * fmax(row[j], 0.0);
                expected -= log(plain_sigmoid(bit ? logit : -logit));
                node = 2 * node + 1 + bit;
            }
        }
    expect("tree loss", fabs(found - expected / (SAMPLES * BATCH)) < 1e-5);
    loss.grad_hidden = NULL;
    for (int node = 0; node < 7; node++) {
        const float own = bias[node], step = 0.01f;
        bias[node] = own + step;
        const double more = gru_tree_loss(&loss);
        bias[node] = own - step;
        const double less = gru_tree_loss(&loss);
        bias[node] = own;
        expect("tree loss back", fabs((more - less) / (2 * step) - grad_bias[node]) < 1e-3);
    }
}

// Products block by block

static uint16_t *halves(int64_t n, float deviation) {
    uint16_t *numbers = take((size_t)n * sizeof *numbers);
    for (int64_t i = 0; i < n; i++) {
        const float x = normal(deviation);
        uint32_t bits;
        memcpy(&bits, &x, sizeof bits);
        numbers[i] = (uint16_t)(bits >> 16);
    }
    return numbers;
}
// Numbers as a kind of blocks wants them: float32 or bf16.
static const void *numbers_of(enum block_kind kind, int64_t n, float deviation) {
    return kind == FLOAT_BLOCKS ? (const void *)normals(n, deviation) : halves(n, deviation);
}
static double number_at(enum block_kind kind, const void *numbers, int64_t at) {
    if (kind == FLOAT_BLOCKS)
        return (double)((const float *)numbers)[at];
    const uint32_t bits = (uint32_t)((const uint16_t *)numbers)[at] << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return (double)x;
}

static void test_block_products(enum block_kind kind, int64_t block_outputs) {
    enum { INPUTS = 48, OUTPUTS = 32, ROWS = 107 };
    const int64_t block_inputs = 64 / block_outputs, n_lines = OUTPUTS / block_outputs;
    // Blocks of float32 lie by inputs, but for the way back.
    const bool by_inputs = kind == FLOAT_BLOCKS && block_outputs == 16;
    const int64_t next_output = by_inputs ? 1 : block_inputs, next_input = by_inputs ? block_outputs : 1;
    int64_t *starts = whole(n_lines + 1), *places = whole(OUTPUTS * INPUTS / 64), n_blocks = 0;
    for (int64_t line = 0; line < n_lines; line++) {
        for (int64_t i = 0; i < INPUTS; i += block_inputs)
            if (random_bits() % 2)
                places[n_blocks++] = i;
        starts[line + 1] = n_blocks;
    }
    const void *weights = numbers_of(kind, 64 * n_blocks, 0.3f);
    const void *inputs = numbers_of(kind, ROWS * INPUTS, 1.0f);
    float *out = zeros(ROWS * OUTPUTS);
    const struct gru_blocks blocks = {.n_inputs = INPUTS,
                                      .n_outputs = OUTPUTS,
                                      .kind = kind,
                                      .block_outputs = block_outputs,
                                      .block_inputs = block_inputs,
                                      .starts = starts,
                                      .places = places,
                                      .weights = weights};
    gru_multiply_blocks(&blocks, inputs, ROWS, out);
    for (int64_t row = 0; row < ROWS; row++)
        for (int64_t o = 0; o < OUTPUTS; o++) {
            const int64_t line = o / block_outputs;
            double sum = 0.0;
            for (int64_t b = starts[line]; b < starts[line + 1]; b++)
                for (int64_t i = 0; i < block_inputs; i++) {
                    const int64_t at = 64 * b + o % block_outputs * next_output + i * next_input;
                    sum +=
                        number_at(kind, weights, at) * number_at(kind, inputs, row * INPUTS + places[b] + i);
                }
            expect("block products", fabs(sum - out[row * OUTPUTS + o]) < 1e-4);
        }
    give_back_all();
}

static void test_outer_products(enum block_kind kind) {
    enum { INPUTS = 48, OUTPUTS = 32, ROWS = 300, CHUNK_NUMBERS = 128 };
    int64_t *starts = whole(OUTPUTS / 16 + 1), *places = whole(OUTPUTS * INPUTS / 64), n_blocks = 0;
    for (int64_t band = 0; band < OUTPUTS / 16; band++) {
        for (int64_t i = 0; i < INPUTS; i += 4)
            if (random_bits() % 2)
                places[n_blocks++] = i;
        starts[band + 1] = n_blocks;
    }
    const void *outputs = numbers_of(kind, ROWS * OUTPUTS, 1.0f);
    const void *inputs = numbers_of(kind, ROWS * INPUTS, 1.0f);
    float *total = zeros(OUTPUTS * INPUTS);
    const struct gru_outer_products products = {.n_rows = ROWS,
                                                .n_outputs = OUTPUTS,
                                                .n_inputs = INPUTS,
                                                .stride = OUTPUTS,
                                                .kind = kind,
                                                .block_inputs = 4,
                                                .starts = starts,
                                                .places = places,
                                                .outputs = outputs,
                                                .inputs = inputs,
                                                .of_outputs =
                                                    take(OUTPUTS * CHUNK_NUMBERS * sizeof(uint32_t)),
                                                .of_inputs = take(INPUTS * CHUNK_NUMBERS * sizeof(uint32_t)),
                                                .sums = zeros(n_blocks * (kind == PAIR_BLOCKS ? 128 : 64)),
                                                .total = total};
    gru_sum_outer_products(&products);
    for (int64_t band = 0; band < OUTPUTS / 16; band++)
        for (int64_t b = starts[band]; b < starts[band + 1]; b++)
            for (int64_t o = 16 * band; o < 16 * band + 16; o++)
                for (int64_t i = places[b]; i < places[b] + 4; i++) {
                    double sum = 0.0;
                    for (int64_t row = 0; row < ROWS; row++)
                        sum += number_at(kind, outputs, row * OUTPUTS + o) *
                               number_at(kind, inputs, row * INPUTS + i);
                    expect("outer products", fabs(sum - total[o * INPUTS + i]) < 1e-3);
                }
    give_back_all();
}

#endif
