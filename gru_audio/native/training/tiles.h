// The products of blocks.h with AMX, whose registers, tiles, hold up to 16 rows of 64 bytes. An
// instruction multiplies two of them as matrices of bf16, by pairs:
//
//     sums [rows][16 outputs]  +=  inputs [rows][pairs][2]  x  weights [pairs][16 outputs][2]
//
// A block is 16 outputs by 16 or 32 inputs, some of whose weights are kept; inputs are read where they lie, and sums
// written to where they belong. Four groups of 16 rows are multiplied while a block's weights are in a tile.
#ifndef GRU_TILES_H
#define GRU_TILES_H

#include "blocks.h"

#if defined(__AVX512BF16__) && defined(__x86_64__)
#define GRU_HAS_TILES 1
#define GRU_WITH_TILES __attribute__((target("amx-tile,amx-bf16")))
#else
#define GRU_HAS_TILES 0
#endif

#if GRU_HAS_TILES

enum { TILE_ROWS = 16, TILE_BYTES = 64, TILE_PAIRS = 16, TILE_NUMBERS = 256, GROUPS_AT_ONCE = 4 };

// Source: Intel, Software Developer's Manual, volume 1, section 18.2.
struct tile_shapes {
    uint8_t palette, start, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

// Tiles 0 to 3 are sums, 4 the second factor, of so many pairs, and 5 to 7 the first, of as many rows as the sums.
GRU_WITH_TILES static void begin_tiles(int64_t rows, int64_t pairs) {
    struct tile_shapes shapes = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        shapes.rows[i] = (uint8_t)(i == 4 ? pairs : rows);
        shapes.row_bytes[i] = (uint16_t)(i > 4 ? 4 * pairs : TILE_BYTES);
    }
    _tile_loadconfig(&shapes);
}

// One line's outputs for up to four groups of rows.
GRU_WITH_TILES static void multiply_line_in_tiles(const struct gru_blocks *m, int64_t line,
                                                  const uint16_t *inputs, float *out, int64_t n_groups) {
    const int64_t stride = 2 * m->n_inputs, out_stride = 4 * m->n_outputs; // in bytes
    const int64_t group = TILE_ROWS * m->n_inputs;
    _tile_zero(0), _tile_zero(1), _tile_zero(2), _tile_zero(3);
    for (int64_t block = m->starts[line]; block < m->starts[line + 1]; block++) {
        const uint16_t *from = inputs + m->places[block];
        _tile_loadd(4, (const uint16_t *)m->weights + block * m->block_inputs * 16, TILE_BYTES);
        _tile_loadd(5, from, stride);
        _tile_dpbf16ps(0, 5, 4);
        if (n_groups > 1) {
            _tile_loadd(6, from + group, stride);
            _tile_dpbf16ps(1, 6, 4);
        }
        if (n_groups > 2) {
            _tile_loadd(7, from + 2 * group, stride);
            _tile_dpbf16ps(2, 7, 4);
        }
        if (n_groups > 3) {
            _tile_loadd(5, from + 3 * group, stride);
            _tile_dpbf16ps(3, 5, 4);
        }
    }
    const int64_t out_group = TILE_ROWS * m->n_outputs;
    _tile_stored(0, out + 16 * line, out_stride);
    if (n_groups > 1)
        _tile_stored(1, out + out_group + 16 * line, out_stride);
    if (n_groups > 2)
        _tile_stored(2, out + 2 * out_group + 16 * line, out_stride);
    if (n_groups > 3)
        _tile_stored(3, out + 3 * out_group + 16 * line, out_stride);
}

// What gru_multiply_blocks does.
GRU_WITH_TILES static void multiply_tiles(const struct gru_blocks *m, const uint16_t *inputs, int64_t n_rows,
                                          float *out) {
    for (int64_t row = 0; row < n_rows;) {
        const int64_t left = (n_rows - row) / TILE_ROWS;
        const int64_t n_groups = left < 1 ? 1 : left < GROUPS_AT_ONCE ? left : GROUPS_AT_ONCE;
        const int64_t rows = left < 1 ? n_rows - row : TILE_ROWS;
        begin_tiles(rows, m->block_inputs / 2);
        for (int64_t line = 0; line < m->n_outputs / 16; line++)
            multiply_line_in_tiles(m, line, inputs + row * m->n_inputs, out + row * m->n_outputs, n_groups);
        row += n_groups * rows;
    }
    _tile_release();
}

// The weights' gradient, from chunks of 256 rows of outputs and inputs, 32 to a tile:
//
//     sums [4 or 16 inputs][16 outputs]  +=  inputs [4 or 16][16 pairs of rows][2]  x  outputs [16 pairs][16][2]
//
// A pair is row k and row k + 16 of the 32, as those can be put together without moving a lane.
enum { CHUNK_TILES = 8, PAIRED_ROWS = 32, CHUNK_ROWS = CHUNK_TILES * PAIRED_ROWS };

// A 16 x 16 matrix turned: four times, the rows of the upper half are zipped with those of the lower.
GRU_INLINE void transpose_u32x16(u32x16 x[TILE_ROWS]) {
    for (int turn = 0; turn < 4; turn++) {
        u32x16 y[TILE_ROWS];
        for (int i = 0; i < TILE_ROWS / 2; i++) {
            const u32x16 a = x[i], b = x[i + TILE_ROWS / 2];
            y[2 * i].even = a.lo, y[2 * i].odd = b.lo;
            y[2 * i + 1].even = a.hi, y[2 * i + 1].odd = b.hi;
        }
        memcpy(x, y, sizeof y);
    }
}

// Row k of 32, and row k + 16, as the lower and the upper halves of 16 numbers.
GRU_INLINE u32x16 pair_rows(const uint16_t *rows, int64_t k, int64_t n_rows, int64_t stride) {
    u32x16 pairs = {0};
    if (k < n_rows)
        pairs = __builtin_convertvector(load_u16x16(rows + k * stride), u32x16);
    if (k + TILE_ROWS < n_rows)
        pairs |= __builtin_convertvector(load_u16x16(rows + (k + TILE_ROWS) * stride), u32x16) << 16;
    return pairs;
}

// A chunk of two bands' outputs, which together are whole lines of the cache, or of the last one's.
static void pair_outputs(const struct gru_outer_products *p, int64_t first, int64_t band) {
    const int64_t n_bands = 16 * (band + 1) < p->n_outputs ? 2 : 1;
    const uint16_t *outputs = p->outputs;
    for (int64_t k = 0; k < CHUNK_ROWS / 2; k++) {
        const int64_t row = first + k / 16 * PAIRED_ROWS;
        for (int64_t i = 0; i < n_bands; i++)
            store_u32x16(
                p->of_outputs + (i * CHUNK_ROWS / 2 + k) * 16,
                pair_rows(outputs + row * p->stride + (band + i) * 16, k % 16, p->n_rows - row, p->stride));
    }
}

// A chunk of all inputs: (n_tiles, I, 16) pairs.
static void turn_pairs(const struct gru_outer_products *p, int64_t first) {
    const uint16_t *inputs = p->inputs;
    for (int64_t tile = 0; tile < CHUNK_TILES; tile++) {
        const int64_t row = first + tile * PAIRED_ROWS;
        for (int64_t input = 0; input < p->n_inputs; input += 16) {
            u32x16 x[TILE_ROWS];
            for (int64_t k = 0; k < TILE_ROWS; k++)
                x[k] = pair_rows(inputs + row * p->n_inputs + input, k, p->n_rows - row, p->n_inputs);
            transpose_u32x16(x);
            memcpy(p->of_inputs + (tile * p->n_inputs + input) * 16, x, sizeof x);
        }
    }
}

// To the sums of up to four blocks of a band is added what a chunk gives.
GRU_WITH_TILES static void add_outer_tiles(const struct gru_outer_products *p, const uint32_t *outputs,
                                           int64_t block, int64_t n_blocks) {
    const uint32_t *from[4];
    float *sums[4];
    for (int64_t i = 0; i < 4; i++) { // beyond the last block the last one again, whose sums are the same
        const int64_t its = block + (i < n_blocks ? i : n_blocks - 1);
        from[i] = p->of_inputs + p->places[its] * 16;
        sums[i] = p->sums + its * p->block_inputs * 16;
    }
    _tile_loadd(0, sums[0], TILE_BYTES);
    _tile_loadd(1, sums[1], TILE_BYTES);
    _tile_loadd(2, sums[2], TILE_BYTES);
    _tile_loadd(3, sums[3], TILE_BYTES);
    for (int64_t tile = 0; tile < CHUNK_TILES; tile++) {
        const int64_t at = tile * p->n_inputs * 16;
        _tile_loadd(4, outputs + tile * TILE_NUMBERS, TILE_BYTES);
        _tile_loadd(5, from[0] + at, TILE_BYTES);
        _tile_dpbf16ps(0, 5, 4);
        _tile_loadd(6, from[1] + at, TILE_BYTES);
        _tile_dpbf16ps(1, 6, 4);
        _tile_loadd(7, from[2] + at, TILE_BYTES);
        _tile_dpbf16ps(2, 7, 4);
        _tile_loadd(5, from[3] + at, TILE_BYTES);
        _tile_dpbf16ps(3, 5, 4);
    }
    _tile_stored(0, sums[0], TILE_BYTES);
    _tile_stored(1, sums[1], TILE_BYTES);
    _tile_stored(2, sums[2], TILE_BYTES);
    _tile_stored(3, sums[3], TILE_BYTES);
}

// What gru_sum_outer_products does.
GRU_WITH_TILES static void sum_outer_tiles(const struct gru_outer_products *p) {
    begin_tiles(p->block_inputs, TILE_PAIRS);
    for (int64_t row = 0; row < p->n_rows; row += CHUNK_ROWS) {
        turn_pairs(p, row);
        for (int64_t band = 0; band < p->n_outputs / 16; band++) {
            const uint32_t *outputs = p->of_outputs + band % 2 * CHUNK_ROWS / 2 * 16;
            if (band % 2 == 0)
                pair_outputs(p, row, band);
            const int64_t end = p->starts[band + 1];
            for (int64_t block = p->starts[band]; block < end; block += 4)
                add_outer_tiles(p, outputs, block, end - block < 4 ? end - block : 4);
        }
    }
    _tile_release();
    put_sums(p);
}

#endif

#endif
