// Products of the recurrent matrix in bf16, block by block: what is pruned costs nothing.
//
//     out[r, o] = sum_i inputs[r, i] matrix[o, i]      over the blocks that are kept, see gru_audio/network/blocks.py
//
// A matrix lies in memory as its kept blocks of 64 numbers, two vectors, line after line of blocks. A line
// has 16 outputs and its blocks 4 inputs, one quad; or, for the way back through the transpose, a line has 4
// outputs and its blocks 16 inputs. Each lane of the sums adds up pairs of products of one output:
//
//     16 x 4   inputs   | i0 i1 i2 i3 | i0 i1 i2 i3 | ..   one quad, 8 times
//              weights  | output 0    | output 1    | ..  7 |    | output 8 | .. 15 |
//     4 x 16   inputs   | i0 ..  i15  | i0 .. i15   |      four quads, twice
//              weights  | output 0    | output 1    |            | output 2 | output 3 |
//
// Eight rows' sums stay in registers while a block's weights are read once. tiles.h does the same with AMX.
#ifndef GRU_BLOCK_PRODUCTS_H
#define GRU_BLOCK_PRODUCTS_H

#include "bf16.h"
#include "../vectors.h"

enum { BLOCK_NUMBERS = 64, ROWS_AT_ONCE = 8 };

struct gru_blocks {
    int64_t n_inputs;
    int64_t n_outputs;
    int64_t in_tiles;        // whether laid out for tiles.h
    int64_t block_outputs;   // 16; 4 for the way back without tiles
    int64_t block_inputs;    // 4; 16 for the way back; with tiles 16 or 32
    const int64_t *starts;   // (n_outputs / block_outputs + 1,), each line's first block
    const int64_t *places;   // (n_blocks,), the block's first input
    const uint16_t *weights; // (n_blocks, block_outputs, block_inputs), for tiles.h by pairs of inputs
};

// The weights' gradient: total[o, i] = sum_n outputs[n, o] inputs[n, i], over the kept blocks.
struct gru_outer_products {
    int64_t n_rows;          // N
    int64_t n_outputs;       // O
    int64_t n_inputs;        // I
    int64_t stride;          // from one row of outputs to the next
    int64_t in_tiles;        // whether as in tiles.h
    int64_t block_inputs;    // of a block, which has 16 outputs: 4, or with tiles 16
    const int64_t *starts;   // (O / 16 + 1,), each band's first block
    const int64_t *places;   // (n_blocks,), the block's first input
    const uint16_t *outputs; // (N, stride), bf16
    const uint16_t *inputs;  // (N, I), bf16
    uint32_t *of_outputs;    // scratch for a chunk of 256 rows: (at least 32 and O, 128)
    uint32_t *of_inputs;     // likewise: (I, 128)
    float *sums;  // (n_blocks, block_inputs, 16, 2), with tiles (n_blocks, block_inputs, 16); zeros
    float *total; // (O, I); blocks that are not kept stay as they are
};

// One quad in all eight quads of a vector, or four in both halves.
GRU_INLINE u16x32 spread_inputs(const uint16_t *inputs, bool are_quads) {
    if (are_quads) {
        uint64_t quad;
        memcpy(&quad, inputs, sizeof quad);
        return (u16x32)all_u64x8(quad);
    }
    u16x32 spread;
    spread.lo = spread.hi = load_u16x16(inputs);
    return spread;
}

// Two vectors in one: each lane is the sum of two neighbours.
GRU_INLINE f32x16 halve_lanes(f32x16 a, f32x16 b) {
    return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30) +
           __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
}

// Some rows' outputs of one line.
GRU_INLINE void multiply_line(const struct gru_blocks *m, int64_t line, const uint16_t *inputs, float *out,
                              int64_t n_rows, bool are_quads) {
    f32x16 sums[ROWS_AT_ONCE][2] = {0};
    for (int64_t block = m->starts[line]; block < m->starts[line + 1]; block++) {
        const u16x32 first = load_u16x32(m->weights + block * BLOCK_NUMBERS);
        const u16x32 second = load_u16x32(m->weights + block * BLOCK_NUMBERS + BLOCK_NUMBERS / 2);
        const uint16_t *place = inputs + m->places[block];
#pragma clang loop unroll(full)
        for (int64_t row = 0; row < n_rows; row++) {
            const u16x32 spread = spread_inputs(place + row * m->n_inputs, are_quads);
            sums[row][0] = add_pairs_bf16(sums[row][0], spread, first);
            sums[row][1] = add_pairs_bf16(sums[row][1], spread, second);
        }
    }
    f32x16 pairs[ROWS_AT_ONCE];
    for (int64_t row = 0; row < n_rows; row++)
        pairs[row] = halve_lanes(sums[row][0], sums[row][1]);
    if (are_quads)
        for (int64_t row = 0; row < n_rows; row++)
            store_f32x16(out + row * m->n_outputs + 16 * line, pairs[row]);
    else // four lanes an output are left: four rows become one vector
        for (int64_t row = 0; row < n_rows; row += 4) {
            const f32x16 *p = pairs + row;
            const f32x16 four = n_rows == 1 ? halve_lanes(halve_lanes(p[0], p[0]), p[0])
                                            : halve_lanes(halve_lanes(p[0], p[1]), halve_lanes(p[2], p[3]));
            float parts[16];
            store_f32x16(parts, four);
            for (int64_t i = 0; i < 4 && row + i < n_rows; i++)
                memcpy(out + (row + i) * m->n_outputs + 4 * line, parts + 4 * i, 4 * sizeof *parts);
        }
}

// out (n_rows, n_outputs) of inputs (n_rows, n_inputs). A row's sums do not depend on how many rows there are.
static void multiply_blocks(const struct gru_blocks *m, const uint16_t *inputs, int64_t n_rows, float *out) {
    const int64_t n_lines = m->n_outputs / m->block_outputs;
    int64_t row = 0;
    while (row < n_rows) {
        const bool many = row + ROWS_AT_ONCE <= n_rows;
        const uint16_t *from = inputs + row * m->n_inputs;
        float *to = out + row * m->n_outputs;
        for (int64_t line = 0; line < n_lines; line++) {
            if (m->block_outputs == 16)
                many ? multiply_line(m, line, from, to, ROWS_AT_ONCE, true)
                     : multiply_line(m, line, from, to, 1, true);
            else
                many ? multiply_line(m, line, from, to, ROWS_AT_ONCE, false)
                     : multiply_line(m, line, from, to, 1, false);
        }
        row += many ? ROWS_AT_ONCE : 1;
    }
}

#endif
