// The weights' gradient in the kept blocks.
//
//     total[o, i] = sum_n outputs[n, o] inputs[n, i]
//
// Four rows at a time are woven into quads, so that a lane adds up pairs of rows:
//
//     rows    a0 a1 a2 ..          woven   | a0 b0 c0 d0 | a1 b1 c1 d1 | ..
//             b0 b1 b2 ..
//             c0 c1 c2 ..          16 outputs fill two vectors, an input fills one, 8 times the same; their
//             d0 d1 d2 ..          products are added to 16 x 1 sums of a block, two lanes each
//
// A chunk of 256 rows is woven at a time, and stays in the second cache; three blocks' sums stay in registers.
#include "numbers.h"
#include "tiles.h"

enum { QUAD = 4, CHUNK = 64, BLOCK_SUMS = 8, BLOCKS_AT_ONCE = 3, BAND = 16 };

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
GRU_INLINE void add_outer_products(const struct gru_outer_products *p, int64_t band, int64_t block,
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
static void put_block(const struct gru_outer_products *p, int64_t band, int64_t block) {
    const float *sums = p->sums + block * BLOCK_SUMS * LANES;
    for (int64_t j = 0; j < QUAD; j++)
        for (int64_t i = 0; i < BAND; i++) {
            const float *pair = sums + 2 * (j * BAND + i);
            p->total[(band * BAND + i) * p->n_inputs + p->places[block] + j] = pair[0] + pair[1];
        }
}

GRU_API void gru_sum_outer_products(const struct gru_outer_products *p) {
#if GRU_HAS_TILES
    if (p->in_tiles) {
        sum_outer_tiles(p);
        return;
    }
#endif
    const int64_t n_bands = p->n_outputs / BAND;
    for (int64_t row = 0; row < p->n_rows; row += QUAD * CHUNK) {
        weave(p->outputs + row * p->stride, p->n_rows - row, p->stride, p->n_outputs, BAND, p->of_outputs);
        weave(p->inputs + row * p->n_inputs, p->n_rows - row, p->n_inputs, p->n_inputs, QUAD, p->of_inputs);
        for (int64_t band = 0; band < n_bands; band++) {
            int64_t block = p->starts[band];
            for (; block + BLOCKS_AT_ONCE <= p->starts[band + 1]; block += BLOCKS_AT_ONCE)
                add_outer_products(p, band, block, BLOCKS_AT_ONCE);
            for (; block < p->starts[band + 1]; block++)
                add_outer_products(p, band, block, 1);
        }
    }
    for (int64_t band = 0; band < n_bands; band++)
        for (int64_t block = p->starts[band]; block < p->starts[band + 1]; block++)
            put_block(p, band, block);
}
