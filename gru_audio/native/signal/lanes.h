// Between frames, one after the other in memory, and lanes, where a vector holds one number of each of 8 frames.
//
//     rows   | a0 a1 a2 .. |          lanes   | a0 b0 c0 .. h0 |
//            | b0 b1 b2 .. |   <->            | a1 b1 c1 .. h1 |
//            |  ..         |                  | a2 b2 c2 .. h2 |
//            | h0 h1 h2 .. |                  |  ..            |
#ifndef GRU_LANES_H
#define GRU_LANES_H

#include "../vectors.h"

enum { FRAME_LANES = 8 };

// A square of 8 x 8 turned over its diagonal: pairs of rows, then of pairs, then of fours are interwoven.
GRU_INLINE void turn_square(f32x8 x[FRAME_LANES]) {
    f32x8 y[FRAME_LANES];
    for (int i = 0; i < FRAME_LANES; i += 2) {
        y[i] = __builtin_shufflevector(x[i], x[i + 1], 0, 8, 2, 10, 4, 12, 6, 14);
        y[i + 1] = __builtin_shufflevector(x[i], x[i + 1], 1, 9, 3, 11, 5, 13, 7, 15);
    }
    for (int i = 0; i < FRAME_LANES; i += 4)
        for (int j = i; j < i + 2; j++) {
            x[j] = __builtin_shufflevector(y[j], y[j + 2], 0, 1, 8, 9, 4, 5, 12, 13);
            x[j + 2] = __builtin_shufflevector(y[j], y[j + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        }
    for (int j = 0; j < FRAME_LANES / 2; j++) {
        const f32x8 a = x[j], b = x[j + 4];
        x[j] = __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11);
        x[j + 4] = __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15);
    }
}

// Frames, the first `row_stride` numbers after the one before, times a window (n,), to lanes (n, 8). Lanes
// without a frame take the last one's numbers, so that nothing wild stands in them.
static void windowed_to_lanes(const float *restrict rows, int64_t row_stride, int64_t n_rows,
                              const float *restrict window, int64_t n, float *restrict lanes) {
    const float *row[FRAME_LANES];
    for (int r = 0; r < FRAME_LANES; r++)
        row[r] = rows + (r < n_rows ? r : n_rows - 1) * row_stride;
    int64_t i = 0;
    for (; i + FRAME_LANES <= n; i += FRAME_LANES) {
        f32x8 square[FRAME_LANES];
        for (int r = 0; r < FRAME_LANES; r++)
            square[r] = load_f32x8(row[r] + i) * load_f32x8(window + i);
        turn_square(square);
        for (int r = 0; r < FRAME_LANES; r++)
            store_f32x8(lanes + (i + r) * FRAME_LANES, square[r]);
    }
    for (; i < n; i++)
        for (int r = 0; r < FRAME_LANES; r++)
            lanes[i * FRAME_LANES + r] = row[r][i] * window[i];
}

// Lanes (n, 8) to rows of n numbers, the first `row_stride` after the one before.
static void lanes_to_rows(const float *restrict lanes, int64_t n, float *restrict rows, int64_t row_stride,
                          int64_t n_rows) {
    int64_t i = 0;
    for (; i + FRAME_LANES <= n; i += FRAME_LANES) {
        f32x8 square[FRAME_LANES];
        for (int r = 0; r < FRAME_LANES; r++)
            square[r] = load_f32x8(lanes + (i + r) * FRAME_LANES);
        turn_square(square);
        for (int r = 0; r < n_rows; r++)
            store_f32x8(rows + r * row_stride + i, square[r]);
    }
    for (; i < n; i++)
        for (int64_t r = 0; r < n_rows; r++)
            rows[r * row_stride + i] = lanes[i * FRAME_LANES + r];
}

#endif
