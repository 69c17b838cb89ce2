// The sample loop in float32, for a GRU with a tree output: the one to read first. int8_loop.c does the same in bytes.
//
//     a[t] = sum_k  coefficients[f, k] s[t - 1 - k]                    what linear prediction expects, k < P
//     h    = GRU(h; gate_inputs[f] + rows of step_tables)              once in S samples
//     y    = max(0, W h + readout_inputs[f] + rows of readout_tables)
//     code ~ tree(V y)                                                 float32_draw
//     s[t] = a[t] + excitation_scale[f] expansion[code]                audio[t] = s[t] + preemphasis audio[t - 1]
//
// Which row of each table, for the first sample of a step, with S = 2 (the readout has no table 5):
//
//     table       0          1          2          3          4            5
//     code of     e[t - 1]   e[t - 2]   s[t - 1]   a[t]       e[t - lag]   e[t + 1 - lag]
//
// Matrices lie in blocks of 16 rows and 4 columns, those of the first 16 rows first; empty ones are left out:
//
//     columns     0          8          12         4          ...          the first column of each block
//     weights     16 of column 0 | 16 of column 1 | 16 of 2 | 16 of 3 | 16 of column 8 | ...
//     ends        3                     5          ...                     blocks up to the end of each 16 rows
//
// Shapes: see model.py; H' and R' are H and R rounded up to a multiple of 16.
#include "../signal/mulaw.h"
#include "block.h"
#include "../vectors.h"

enum { MOST_SAMPLES_A_STEP = 4, MOST_TABLES = 2 * MOST_SAMPLES_A_STEP + 2 };

struct gru_float32_blocks {
    const int64_t *ends;    // (rows / 16,)
    const int64_t *columns; // (n_blocks,)
    const float *weights;   // (n_blocks, 4, 16)
};

struct gru_float32_network {
    int64_t gru_size;                    // H
    int64_t readout_size;                // R
    int64_t samples_per_step;            // S
    int64_t order;                       // P; at 0 there are the tables of e alone, the first S
    int64_t n_classes;                   // Q
    struct gru_float32_blocks recurrent; // of (H' / 16, 3, 16, H'): 16 rows of each gate in turn
    struct gru_float32_blocks readout;   // of (S R', H')
    const float *step_tables;            // (n, Q, 3, H')
    const float *new_bias;               // (H',) of the new gate's product
    const float *readout_bias;           // (S, R')
    const float *readout_tables;         // (n, Q, R')
    const float *output;                 // (Q - 1, R') the nodes of the tree
    const float *output_bias;            // (Q - 1,)
    const float *edges;                  // (Q - 1,) of mu-law
    const float *expansion;              // (Q,)
    float preemphasis;
};

struct float32_room {
    float *hidden, *next_hidden; // (H',)
    float *gates;                // (3, H') the frame's inputs
    float *readouts;             // (S, R') W h + bias, of each sample of a step
    float *inputs, *row;         // (R',) the frame's inputs of the readout; y
};

static int64_t float32_padded(int64_t size) {
    return (size + 15) / 16 * 16;
}

// Rows 16 n to 16 n + 15 of a matrix times a vector.
GRU_INLINE f32x16 float32_multiply_rows(const struct gru_float32_blocks *matrix, int64_t n,
                                        const float *vector) {
    f32x16 sums[4] = {0};
    for (int64_t block = n ? matrix->ends[n - 1] : 0; block < matrix->ends[n]; block++) {
        const float *weights = matrix->weights + 64 * block, *values = vector + matrix->columns[block];
        for (int c = 0; c < 4; c++)
            sums[c] = multiply_add_f32x16(load_f32x16(weights + 16 * c), all_f32x16(values[c]), sums[c]);
    }
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

// What the tables add to 16 places of a row.
GRU_INLINE f32x16 float32_sum_tables(const float *const *rows, int64_t n_rows, int64_t place) {
    f32x16 sum = load_f32x16(rows[0] + place);
    for (int64_t i = 1; i < n_rows; i++)
        sum += load_f32x16(rows[i] + place);
    return sum;
}

// r = sigmoid(gates_r + U_r h), z likewise, n = tanh(gates_n + r (U_n h + bias)), h' = n + z (h - n).
// Source: torch.nn.GRU's documentation.
static void float32_step_gru(const struct gru_float32_network *network, const float *const *rows,
                             int64_t n_rows, struct float32_room *room) {
    const int64_t size = float32_padded(network->gru_size);
    for (int64_t j = 0; j < size / 16; j++) {
        f32x16 gates[3], products[3];
        for (int64_t gate = 0; gate < 3; gate++) {
            const int64_t place = gate * size + 16 * j;
            gates[gate] = load_f32x16(room->gates + place) + float32_sum_tables(rows, n_rows, place);
            products[gate] = float32_multiply_rows(&network->recurrent, 3 * j + gate, room->hidden);
        }
        const f32x16 reset = sigmoid_f32x16(gates[0] + products[0]);
        const f32x16 update = sigmoid_f32x16(gates[1] + products[1]);
        const f32x16 inner = products[2] + load_f32x16(network->new_bias + 16 * j);
        const f32x16 new = tanh_f32x16(gates[2] + reset * inner);
        const f32x16 hidden = load_f32x16(room->hidden + 16 * j);
        store_f32x16(room->next_hidden + 16 * j, new + update * (hidden - new));
    }
    float *before = room->hidden;
    room->hidden = room->next_hidden;
    room->next_hidden = before;
}

// y of sample i of a step, from its readout.
static void float32_read_out(const struct gru_float32_network *network, const float *const *rows,
                             int64_t n_rows, int64_t i, struct float32_room *room) {
    const int64_t size = float32_padded(network->readout_size);
    for (int64_t j = 0; j < size; j += 16) {
        const f32x16 inputs = load_f32x16(room->inputs + j) + float32_sum_tables(rows, n_rows, j);
        const f32x16 value = load_f32x16(room->readouts + i * size + j) + inputs;
        store_f32x16(room->row + j, max_f32x16(value, all_f32x16(0.0f)));
    }
}

static float float32_dot(const float *restrict a, const float *restrict b, int64_t size) {
    f32x16 sum = {0};
    for (int64_t j = 0; j < size; j += 16)
        sum = multiply_add_f32x16(load_f32x16(a + j), load_f32x16(b + j), sum);
    return sum_f32x16(sum);
}

// How a code comes about: the place to change it, with the function after the next.
//
// P of the right child of a node of the tree; its logit is the log odds of bit 1 of the code.
static float float32_right_share(const struct gru_float32_network *network, const float *row, int64_t node,
                                 float temperature, float tail_cut) {
    const int64_t size = float32_padded(network->readout_size);
    const float sum = float32_dot(network->output + node * size, row, size) + network->output_bias[node];
    const float right = sigmoid_f32x16(all_f32x16(sum / temperature))[0];
    return right < tail_cut ? 0.0f : right > 1.0f - tail_cut ? 1.0f : right;
}

// From the root of the tree down, the uniform number says which child, and then where in that child's interval
// it lies. With `forced` not negative the way is that code's. Returns the code, and its probability.
static int64_t float32_draw(const struct gru_float32_network *network, const float *row, float uniform,
                            int64_t forced, float temperature, float tail_cut, float *probability) {
    int64_t node = 0;
    *probability = 1.0f;
    for (int64_t bit = network->n_classes / 2; bit; bit /= 2) {
        const float right = float32_right_share(network, row, node, temperature, tail_cut),
                    left = 1.0f - right;
        // Never where nothing is left: the division may have rounded the number up to 1.
        const bool goes_right = forced < 0 ? uniform >= left && right > 0.0f : forced & bit;
        uniform = goes_right ? (uniform - left) / right : uniform / left;
        *probability *= goes_right ? right : left;
        node = 2 * node + 1 + goes_right;
    }
    return node - (network->n_classes - 1);
}

// The code whose noise is coloured, of a drawn one; see shaping.h.
static int64_t float32_shape(const struct gru_float32_network *network, const struct gru_shaping *shaping,
                             const float *row, int64_t code, bool is_voiced, float temperature,
                             float tail_cut) {
    float shares[MEAN_GROUPS] = {1.0f};
    for (int64_t n = 1; n < MEAN_GROUPS; n *= 2)
        for (int64_t i = n - 1; i >= 0; i--) {
            const float right = float32_right_share(network, row, n - 1 + i, temperature, tail_cut);
            shares[2 * i + 1] = shares[i] * right;
            shares[2 * i] = shares[i] * (1.0f - right);
        }
    const float mean = mean_of_groups(shaping, load_f32x16(shares));
    const float shaped = shaped_amplitude(shaping, network->expansion[code], mean);
    return is_voiced ? code_of(shaped, network->edges, (int32_t)network->n_classes) : code;
}

// The code of each table for sample t, see above: S of the past, and with prediction, of s[t - 1], a[t] and
// the delayed e of this sample and the rest of the step. Returns how many.
static int64_t float32_find_codes(const struct gru_float32_network *network, const struct gru_block *block,
                                  int64_t t, float prediction, int64_t *found) {
    const int64_t n_samples = network->samples_per_step, f = t / block->hop, lag = block->lags[f];
    const int64_t *codes = block->codes + block->n_past + t; // e[t], yet to come
    int64_t n = 0;
    while (n < n_samples) {
        found[n] = codes[-1 - n];
        n++;
    }
    if (!network->order)
        return n;
    const int32_t n_classes = (int32_t)network->n_classes;
    const float before = block->rebuilt[network->order + t - 1], scale = block->signal_scale[f];
    found[n++] = code_of(before / scale, network->edges, n_classes);
    found[n++] = code_of(prediction / scale, network->edges, n_classes);
    for (int64_t k = 0; k < n_samples; k++)
        found[n++] = lag ? codes[k - lag] : n_classes / 2;
    return n;
}

// Rows of `width` numbers of tables (n, Q, width), one of each.
static void float32_find_rows(const float *tables, int64_t width, int64_t n_classes, const int64_t *codes,
                              int64_t n, const float **rows) {
    for (int64_t i = 0; i < n; i++)
        rows[i] = tables + (i * n_classes + codes[i]) * width;
}

// A frame's inputs to where there is room for whole vectors; the padding stays 0.
static void float32_take_frame(const struct gru_float32_network *network, const struct gru_block *block,
                               int64_t f, struct float32_room *room) {
    const int64_t n_units = network->gru_size, n_readout = network->readout_size;
    for (int64_t gate = 0; gate < 3; gate++)
        memcpy(room->gates + gate * float32_padded(n_units), block->gate_inputs + (3 * f + gate) * n_units,
               (size_t)n_units * sizeof(float));
    memcpy(room->inputs, block->readout_inputs + f * n_readout, (size_t)n_readout * sizeof(float));
}

static float float32_predict(const struct gru_float32_network *network, const struct gru_block *block,
                             int64_t t) {
    const float *coefficients = block->coefficients + t / block->hop * network->order;
    const float *rebuilt = block->rebuilt + network->order + t;
    float sum = 0.0f;
    for (int64_t k = 0; k < network->order; k++)
        sum += coefficients[k] * rebuilt[-1 - k];
    return sum;
}

static struct float32_room float32_divide_scratch(const struct gru_float32_network *network,
                                                  const struct gru_block *block, float *scratch) {
    const int64_t n_units = float32_padded(network->gru_size),
                  n_readout = float32_padded(network->readout_size);
    struct float32_room room = {.hidden = scratch};
    room.next_hidden = room.hidden + n_units;
    room.gates = room.next_hidden + n_units;
    room.inputs = room.gates + 3 * n_units;
    room.row = room.inputs + n_readout;
    room.readouts = room.row + n_readout;
    memset(room.hidden, 0, (size_t)(room.readouts - room.hidden) * sizeof(float)); // and so all padding
    memcpy(room.hidden, block->hidden, (size_t)network->gru_size * sizeof(float));
    return room;
}

// Generates the samples of a block, or weighs given codes. `scratch` has 5 H' + (S + 2) R' numbers.
GRU_API void gru_float32_generate(const struct gru_float32_network *network, const struct gru_block *block,
                                  float *scratch) {
    struct float32_room room = float32_divide_scratch(network, block, scratch);
    const int64_t n_units = float32_padded(network->gru_size),
                  n_readout = float32_padded(network->readout_size);
    const int64_t n_samples = network->samples_per_step, order = network->order;
    int64_t codes[MOST_TABLES];
    const float *rows[MOST_TABLES];
    for (int64_t t = 0; t < block->n_frames * block->hop; t++) {
        const int64_t f = t / block->hop, i = t % n_samples;
        if (t % block->hop == 0)
            float32_take_frame(network, block, f, &room);
        const float prediction = float32_predict(network, block, t);
        const int64_t n_tables = float32_find_codes(network, block, t, prediction, codes);
        if (i == 0) {
            float32_find_rows(network->step_tables, 3 * n_units, network->n_classes, codes, n_tables, rows);
            float32_step_gru(network, rows, n_tables, &room);
            for (int64_t j = 0; j < n_samples * n_readout / 16; j++)
                store_f32x16(room.readouts + 16 * j,
                             float32_multiply_rows(&network->readout, j, room.hidden) +
                                 load_f32x16(network->readout_bias + 16 * j));
        }
        const int64_t n_read = order ? n_samples + 3 : n_samples;
        float32_find_rows(network->readout_tables, n_readout, network->n_classes, codes, n_read, rows);
        float32_read_out(network, rows, n_read, i, &room);
        const int64_t forced = block->n_forced ? block->forced[t] : -1;
        const bool is_voiced = block->lags[f] > 0;
        const float temperature = is_voiced ? block->shaping.voiced_temperature : block->temperature;
        int64_t code = float32_draw(network, room.row, block->uniforms[t], forced, temperature,
                                    block->tail_cut, &block->probability[t]);
        if (block->shaping.is_on)
            code = float32_shape(network, &block->shaping, room.row, code, is_voiced, temperature,
                                 block->tail_cut);
        const float sample = prediction + block->excitation_scale[f] * network->expansion[code];
        block->codes[block->n_past + t] = code;
        block->rebuilt[order + t] = sample;
        block->audio[t] = *block->last_audio = sample + network->preemphasis * *block->last_audio;
    }
    memcpy(block->hidden, room.hidden, (size_t)network->gru_size * sizeof(float));
}
