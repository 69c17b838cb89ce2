// The readout and the tree's nodes in bytes.
//
//     y[i]   = max(0, W[i] h + conditioning + table rows)        i: which sample of the step
//     sums   = V y                                               of the 15 nodes of a subtree
//
// y has whole numbers up to 16,383, more than a byte holds: it is multiplied as two bytes, y = 128 high + low.
#ifndef GRU_INT8_READOUT_H
#define GRU_INT8_READOUT_H

#include "int8.h"

enum { LOW_BITS = 7, ROW_BYTES = 2 * GROUP_UNITS }; // of y

// Adds to the sums of all samples of the step the products of n blocks of each 16 rows with a part of its new state:
// a pair's, of which all 8 blocks are there, or a quad's, of which W is pruned to n. `before` are the sums so far.
GRU_INLINE void int8_read_part(const struct gru_int8_network *network, const struct gru_int8_room *room,
                               int64_t part, const int32_t *before, const int64_t n, const bool is_whole) {
    const int64_t n_groups = network->n_readout_groups, n_samples = network->samples_per_step;
    const int64_t width = int8_quads(network->readout_size) * QUAD_UNITS;
    const int64_t first = part * n_samples * n_groups * n;
    const int8_t *block = network->readout_blocks + first * INT8_BLOCK_BYTES;
    const int8_t *activations = room->activations + part * (is_whole ? PAIR_UNITS : QUAD_UNITS);
    const uint8_t *columns = network->readout_columns + first;
    int32_t fours[PAIR_FOURS]; // of a pair, which then lie in registers
    for (int k = 0; is_whole && k < PAIR_FOURS; k++)
        fours[k] = load_four(activations + k * FOUR_COLUMNS);
    for (int64_t i = 0; i < n_samples; i++)
        for (int64_t group = 0; group < n_groups; group++) {
            const int64_t at = i * width + group * GROUP_UNITS;
            struct running_sums sums = {load_i32x16(before + at), {0}};
            for (int64_t k = 0; k < n; k += 2) {
                const int32_t four = is_whole ? fours[k] : load_four(activations + columns[k]),
                              next = is_whole ? fours[k + 1] : load_four(activations + columns[k + 1]);
                sums = add_two_products(sums, four, load_i8x64(block + k * INT8_BLOCK_BYTES), next,
                                        load_i8x64(block + (k + 1) * INT8_BLOCK_BYTES));
            }
            store_i32x16(room->readout_sums + at, total(sums));
            block += n * INT8_BLOCK_BYTES;
            columns += n;
        }
}

// A quad. The compiler makes loops of their own for the shares that are left most often.
GRU_INLINE void int8_read_quad(const struct gru_int8_network *network, const struct gru_int8_room *room,
                               int64_t quad, const int32_t *before) {
    const int64_t n = network->n_readout_blocks;
    if (n == 2 * PAIR_FOURS) {
        int8_read_part(network, room, 2 * quad, before, PAIR_FOURS, true);
        if (2 * quad + 1 < network->n_pairs)
            int8_read_part(network, room, 2 * quad + 1, room->readout_sums, PAIR_FOURS, true);
    } else if (n == PAIR_FOURS / 2) {
        int8_read_part(network, room, quad, before, PAIR_FOURS / 2, false);
    } else {
        int8_read_part(network, room, quad, before, n, false);
    }
}

// y of sample i of a step, in two bytes each: 16 high ones, then 16 low ones.
GRU_INLINE void int8_read_out(const struct gru_int8_network *network, const struct gru_int8_room *room,
                              int64_t i, const int8_t *const *rows, int64_t n_rows) {
    const int64_t width = int8_quads(network->readout_size) * QUAD_UNITS;
    for (int64_t first = 0; first < width; first += QUAD_UNITS) {
        i32x16 sums[4];
        for (int k = 0; k < 4; k++)
            sums[k] = load_i32x16(room->readout_sums + i * width + first + k * GROUP_UNITS);
        int8_add_rows(sums, rows, n_rows, first);
        for (int k = 0; k < 4; k++) {
            const int64_t at = first + k * GROUP_UNITS;
            const f32x16 value = to_float(sums[k]) * load_f32x16(network->readout_units + at);
            const i32x16 whole = (i32x16)(max_f32x16(value, all_f32x16(0.0f)) + ROUNDING);
            int8_t *row = room->row + 2 * at;
            store_i8x16(row, __builtin_convertvector((whole >> LOW_BITS) & 127, i8x16));
            store_i8x16(row + GROUP_UNITS, __builtin_convertvector(whole & 127, i8x16));
        }
    }
}

// What the 15 nodes of a subtree sum up, and an empty one; see packing.PackedTree.
GRU_INLINE i32x16 int8_sum_nodes(const struct gru_int8_network *network, const struct gru_int8_room *room,
                                 int64_t subtree) {
    const int64_t n_groups = network->n_readout_groups;
    const int8_t *block = network->tree_blocks + subtree * n_groups * 4 * INT8_BLOCK_BYTES, *row = room->row;
    struct running_sums high[2] = {0}, low[2] = {0};
    for (int64_t group = 0; group < n_groups; group++) {
        for (int k = 0; k < 2; k++) {
            const i8x64 weights = load_i8x64(block), next = load_i8x64(block + INT8_BLOCK_BYTES);
            const int8_t *fours = row + 2 * k * FOUR_COLUMNS, *low_fours = fours + GROUP_UNITS;
            high[k] =
                add_two_products(high[k], load_four(fours), weights, load_four(fours + FOUR_COLUMNS), next);
            low[k] = add_two_products(low[k], load_four(low_fours), weights,
                                      load_four(low_fours + FOUR_COLUMNS), next);
            block += 2 * INT8_BLOCK_BYTES;
        }
        row += ROW_BYTES;
    }
    return ((total(high[0]) + total(high[1])) << LOW_BITS) + (total(low[0]) + total(low[1]));
}

#endif
