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

// Adds to the sums of all samples of the step the products with a pair of groups of its new state. `before` are the
// sums so far. W is pruned: of each 16 rows n blocks are left, an even number of the pair's 8.
GRU_INLINE void int8_read_pair(const struct gru_int8_network *network, const struct gru_int8_room *room,
                               int64_t pair, const int32_t *before, const int64_t n) {
    const int64_t n_groups = network->n_readout_groups, n_samples = network->samples_per_step;
    const int64_t width = int8_quads(network->readout_size) * QUAD_UNITS,
                  first = pair * n_samples * n_groups * n;
    const int8_t *block = network->readout_blocks + first * INT8_BLOCK_BYTES;
    const uint8_t *columns = network->readout_columns + first;
    const int8_t *activations = room->activations + pair * PAIR_UNITS;
    int32_t fours[PAIR_FOURS];
    for (int k = 0; k < PAIR_FOURS; k++)
        fours[k] = load_four(activations + k * FOUR_COLUMNS);
    for (int64_t i = 0; i < n_samples; i++)
        for (int64_t group = 0; group < n_groups; group++) {
            const int64_t at = i * width + group * GROUP_UNITS;
            struct running_sums sums = {load_i32x16(before + at), {0}};
            for (int64_t k = 0; k < n; k += 2) {
                const bool is_whole = n == PAIR_FOURS; // the fours then lie in registers
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

// The pairs of a quad. The compiler makes loops of their own for the shares that are left most often.
GRU_INLINE void int8_read_quad(const struct gru_int8_network *network, const struct gru_int8_room *room,
                               int64_t quad, const int32_t *before) {
    const int64_t n = network->n_readout_blocks;
    for (int64_t pair = 2 * quad; pair < 2 * quad + 2 && pair < network->n_pairs; pair++) {
        if (n == PAIR_FOURS)
            int8_read_pair(network, room, pair, before, PAIR_FOURS);
        else if (n == PAIR_FOURS / 4)
            int8_read_pair(network, room, pair, before, PAIR_FOURS / 4);
        else
            int8_read_pair(network, room, pair, before, n);
        before = room->readout_sums;
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
