// The products of blocks.h in bf16, by pairs: each lane of the sums adds up pairs of products of one output.
//
//     16 x 4   inputs   | i0 i1 i2 i3 | i0 i1 i2 i3 | ..   one quad, 8 times
//              weights  | output 0    | output 1    | ..  7 |    | output 8 | .. 15 |
//     4 x 16   inputs   | i0 ..  i15  | i0 .. i15   |      four quads, twice
//              weights  | output 0    | output 1    |            | output 2 | output 3 |
//
// Eight rows' sums stay in registers while a block's weights are read once.
#ifndef GRU_PAIR_BLOCKS_H
#define GRU_PAIR_BLOCKS_H

#include "blocks.h"

enum { PAIR_ROWS = 8, CHUNK = 64, BLOCK_SUMS = 8, BLOCKS_AT_ONCE = 3 };

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
GRU_INLINE void multiply_pair_line(const struct gru_blocks *m, int64_t line, const uint16_t *inputs,
                                   float *out, int64_t n_rows, bool are_quads) {
    f32x16 sums[PAIR_ROWS][2] = {0};
    for (int64_t block = m->starts[line]; block < m->starts[line + 1]; block++) {
        const uint16_t *weights = (const uint16_t *)m->weights + block * BLOCK_NUMBERS;
        const u16x32 first = load_u16x32(weights), second = load_u16x32(weights + BLOCK_NUMBERS / 2);
        const uint16_t *place = inputs + m->places[block];
#pragma clang loop unroll(full)
        for (int64_t row = 0; row < n_rows; row++) {
            const u16x32 spread = spread_inputs(place + row * m->n_inputs, are_quads);
            sums[row][0] = add_pairs_bf16(sums[row][0], spread, first);
            sums[row][1] = add_pairs_bf16(sums[row][1], spread, second);
        }
    }
    f32x16 pairs[PAIR_ROWS];
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

// What gru_multiply_blocks does.
static void multiply_pairs(const struct gru_blocks *m, const uint16_t *inputs, int64_t n_rows, float *out) {
    const int64_t n_lines = m->n_outputs / m->block_outputs;
    int64_t row = 0;
    while (row < n_rows) {
        const bool many = row + PAIR_ROWS <= n_rows;
        const uint16_t *from = inputs + row * m->n_inputs;
        float *to = out + row * m->n_outputs;
        for (int64_t line = 0; line < n_lines; line++) {
            if (m->block_outputs == 16)
                many ? multiply_pair_line(m, line, from, to, PAIR_ROWS, true)
                     : multiply_pair_line(m, line, from, to, 1, true);
            else
                many ? multiply_pair_line(m, line, from, to, PAIR_ROWS, false)
                     : multiply_pair_line(m, line, from, to, 1, false);
        }
        row += many ? PAIR_ROWS : 1;
    }
}

// The weights' gradient. Four rows at a time are woven into quads, so that a lane adds up pairs of rows:
//
//     rows    a0 a1 a2 ..          woven   | a0 b0 c0 d0 | a1 b1 c1 d1 | ..
//             b0 b1 b2 ..
//             c0 c1 c2 ..          16 outputs fill two vectors, an input fills one, 8 times the same; their
//             d0 d1 d2 ..          products are added to 16 x 1 sums of a block, two lanes each
//
// A chunk of 256 rows is woven at a time, and stays in the second cache; three blocks' sums stay in registers.

// Quads of four rows' numbers in 16 columns: columns 0 to 7, then 8 to 15.
GRU_INLINE void weave_columns(const u16x16 rows[QUAD], u32x16 quads[2]) {
    u16x32 ab, cd;
    ab.even = rows[0], ab.odd = rows[1];
    cd.even = rows[2], cd.odd = rows[3];
    quads[0].even = ((u32x16)ab).lo, quads[0].odd = ((u32x16)cd).lo;
    quads[1].even = ((u32x16)ab).hi, quads[1].odd = ((u32x16)cd).hi;
}

// A chunk's rows, 0 beyond the last, as quads (n_columns / width, 64, width): `width` columns lie together.
GRU_INLINE void weave(const uint16_t *rows, int64_t n_rows, int64_t stride, int64_t n_columns, int64_t width,
                      uint32_t *woven) {
    for (int64_t quad = 0; quad < CHUNK; quad++)
        for (int64_t column = 0; column < n_columns; column += LANES) {
            u16x16 r[QUAD] = {0};
            for (int64_t i = 0; i < QUAD && QUAD * quad + i < n_rows; i++)
                r[i] = load_u16x16(rows + (QUAD * quad + i) * stride + column);
            u32x16 quads[2];
            weave_columns(r, quads);
            for (int64_t part = 0; part < LANES; part += width)
                memcpy(woven + ((column + part) / width * CHUNK + quad) * width * 2,
                       (const uint32_t *)quads + 2 * part, (size_t)width * 2 * sizeof *woven);
        }
}

// To the sums of some blocks of a band are added the outer products of a chunk.
GRU_INLINE void add_outer_pairs(const struct gru_outer_products *p, int64_t band, int64_t block,
                                int64_t n_blocks) {
    f32x16 sums[BLOCKS_AT_ONCE][BLOCK_SUMS];
    float *of_blocks = p->sums + block * BLOCK_SUMS * LANES;
    for (int64_t i = 0; i < n_blocks * BLOCK_SUMS; i++)
        sums[i / BLOCK_SUMS][i % BLOCK_SUMS] = load_f32x16(of_blocks + i * LANES);
    const uint32_t *outputs = p->of_outputs + band * CHUNK * BAND * 2;
    for (int64_t quad = 0; quad < CHUNK; quad++) {
        const u16x32 low = load_u16x32((const uint16_t *)(outputs + quad * BAND * 2));
        const u16x32 high = load_u16x32((const uint16_t *)(outputs + quad * BAND * 2 + BAND));
        for (int64_t i = 0; i < n_blocks; i++) {
            const uint32_t *inputs = p->of_inputs + (p->places[block + i] * CHUNK + quad * QUAD) * 2;
            for (int64_t j = 0; j < QUAD; j++) {
                const u16x32 input = spread_inputs((const uint16_t *)(inputs + 2 * j), true);
                sums[i][2 * j] = add_pairs_bf16(sums[i][2 * j], input, low);
                sums[i][2 * j + 1] = add_pairs_bf16(sums[i][2 * j + 1], input, high);
            }
        }
    }
    for (int64_t i = 0; i < n_blocks * BLOCK_SUMS; i++)
        store_f32x16(of_blocks + i * LANES, sums[i / BLOCK_SUMS][i % BLOCK_SUMS]);
}

// A block's sums, two lanes each, to their places in the whole matrix.
static void put_pair_sums(const struct gru_outer_products *p, int64_t band, int64_t block) {
    const float *sums = p->sums + block * BLOCK_SUMS * LANES;
    for (int64_t j = 0; j < QUAD; j++)
        for (int64_t i = 0; i < BAND; i++) {
            const float *pair = sums + 2 * (j * BAND + i);
            p->total[(band * BAND + i) * p->n_inputs + p->places[block] + j] = pair[0] + pair[1];
        }
}

// What gru_sum_outer_products does.
static void sum_outer_pairs(const struct gru_outer_products *p) {
    const int64_t n_bands = p->n_outputs / BAND;
    const uint16_t *outputs = p->outputs, *inputs = p->inputs;
    for (int64_t row = 0; row < p->n_rows; row += QUAD * CHUNK) {
        const int64_t left = p->n_rows - row;
        weave(outputs + row * p->stride, left, p->stride, p->n_outputs, BAND, p->of_outputs);
        weave(inputs + row * p->n_inputs, left, p->n_inputs, p->n_inputs, QUAD, p->of_inputs);
        for (int64_t band = 0; band < n_bands; band++) {
            int64_t block = p->starts[band];
            for (; block + BLOCKS_AT_ONCE <= p->starts[band + 1]; block += BLOCKS_AT_ONCE)
                add_outer_pairs(p, band, block, BLOCKS_AT_ONCE);
            for (; block < p->starts[band + 1]; block++)
                add_outer_pairs(p, band, block, 1);
        }
    }
    for (int64_t band = 0; band < n_bands; band++)
        for (int64_t block = p->starts[band]; block < p->starts[band + 1]; block++)
            put_pair_sums(p, band, block);
}

#endif
