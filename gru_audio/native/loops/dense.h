// Products of one matrix with rows of numbers, whose bits for a row do not depend on how many rows there are.
//
//     out[f, o] = bias[o] + sum_i  inputs[f, i] matrix[o, i]             each sum has one accumulator
//
// Inputs have 13 significant bits, weights 11, so that a product is exact in the 24 of a float: fused with its sum or
// not, it gives the same bits on every processor.
//
//     tiles  (n_tiles, n_inputs + 1, 16)     16 outputs' weights for each input, and then their bias:
//            | input 0: o0 .. o15 | input 1: o0 .. o15 | .. | bias: o0 .. o15 |  next 16 outputs ..
//
// gru_audio/native/dense.py lays a matrix out so; outputs beyond the matrix's are 0. Some rows and tiles go together,
// as many sums as the registers hold, so that each weight and each input is fetched for several sums at once.
#ifndef GRU_DENSE_H
#define GRU_DENSE_H

#include "../vectors.h"

enum { DENSE_WIDTH = 16 }; // outputs of a tile

#if defined(__AVX512F__)
enum { DENSE_ROWS = 8, DENSE_TILES = 2 }; // 16 of 32 registers hold sums
#elif defined(__AVX2__) || defined(__aarch64__)
enum { DENSE_ROWS = 4, DENSE_TILES = 1 }; // 8 of 16, and 16 of 32
#else
enum { DENSE_ROWS = 2, DENSE_TILES = 1 }; // 8 of 16
#endif

struct dense_layer {
    const float *tiles;
    int64_t n_tiles;
    int64_t n_inputs;
};

// The numbers with 13 significant bits that are nearest, at a tie those further from 0.
GRU_INLINE f32x16 dense_rounded_f32x16(f32x16 x) {
    enum { DROPPED = 24 - 13 };
    const i32x16 bits = (i32x16)x + (1 << (DROPPED - 1));
    return (f32x16)(bits & ~((1 << DROPPED) - 1));
}
GRU_INLINE float dense_rounded(float x) {
    return dense_rounded_f32x16(all_f32x16(x))[0];
}

// The sums of some rows and tiles, whose numbers the compiler knows.
GRU_INLINE void dense_block(const float *restrict inputs, int64_t input_stride, int rows, const float *tile,
                            int tiles, int64_t n_inputs, float *restrict out, int64_t out_stride) {
    const int64_t tile_size = (n_inputs + 1) * DENSE_WIDTH;
    f32x16 sums[DENSE_ROWS][DENSE_TILES];
    for (int r = 0; r < rows; r++)
        for (int t = 0; t < tiles; t++)
            sums[r][t] = load_f32x16(tile + t * tile_size + n_inputs * DENSE_WIDTH);
    for (int64_t i = 0; i < n_inputs; i++)
        for (int t = 0; t < tiles; t++) {
            const f32x16 weights = load_f32x16(tile + t * tile_size + i * DENSE_WIDTH);
            for (int r = 0; r < rows; r++) {
                const f32x16 input = all_f32x16(inputs[r * input_stride + i]);
                sums[r][t] = multiply_add_f32x16(input, weights, sums[r][t]);
            }
        }
    for (int r = 0; r < rows; r++)
        for (int t = 0; t < tiles; t++)
            store_f32x16(out + r * out_stride + t * DENSE_WIDTH, sums[r][t]);
}

// All rows of some tiles.
GRU_INLINE void dense_rows(const float *restrict inputs, int64_t input_stride, int64_t n_rows,
                           const float *tile, int tiles, int64_t n_inputs, float *restrict out,
                           int64_t out_stride) {
    int64_t f = 0;
    for (; f + DENSE_ROWS <= n_rows; f += DENSE_ROWS)
        dense_block(inputs + f * input_stride, input_stride, DENSE_ROWS, tile, tiles, n_inputs,
                    out + f * out_stride, out_stride);
    for (; f < n_rows; f++)
        dense_block(inputs + f * input_stride, input_stride, 1, tile, tiles, n_inputs, out + f * out_stride,
                    out_stride);
}

// out = inputs matrix^T + bias. Row f of the inputs begins at input_stride f, and rows may overlap, as frames laid end
// to end do; row f of the outputs begins at out_stride f and has 16 n_tiles numbers, padding included.
GRU_INLINE void dense(const struct dense_layer *layer, const float *restrict inputs, int64_t input_stride,
                      int64_t n_rows, float *restrict out, int64_t out_stride) {
    const int64_t n_inputs = layer->n_inputs, tile_size = (n_inputs + 1) * DENSE_WIDTH;
    int64_t t = 0;
    for (; t + DENSE_TILES <= layer->n_tiles; t += DENSE_TILES)
        dense_rows(inputs, input_stride, n_rows, layer->tiles + t * tile_size, DENSE_TILES, n_inputs,
                   out + t * DENSE_WIDTH, out_stride);
    for (; t < layer->n_tiles; t++)
        dense_rows(inputs, input_stride, n_rows, layer->tiles + t * tile_size, 1, n_inputs,
                   out + t * DENSE_WIDTH, out_stride);
}

#endif
