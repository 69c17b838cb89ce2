// Rows of numbers as training stores them, in bf16 or in float32, read and written 16 at a time.
//
//     row     | x0 .. x15 | x16 .. x31 | ... | the rest, fewer than 16 |
//
// What a loop does with 16 numbers it does with the rest, whose missing lanes are read as 0 and not written.
// `kind` and `n` are constants wherever a loop is inlined, so none of the branches below is left in it.
#ifndef GRU_NUMBERS_H
#define GRU_NUMBERS_H

#include "bf16.h"
#include "../vectors.h"

enum number { FLOAT32, BF16 };

enum { LANES = 16 };

// The n numbers from place `at` on, at most 16.
GRU_INLINE f32x16 load_numbers(const void *from, int64_t at, int64_t n, enum number kind) {
    u16x16 narrow = {0};
    f32x16 x = {0};
    if (kind == FLOAT32) {
        memcpy(&x, (const float *)from + at, (size_t)n * sizeof(float));
        return x;
    }
    memcpy(&narrow, (const uint16_t *)from + at, (size_t)n * sizeof(uint16_t));
    return widen_bf16(narrow);
}

GRU_INLINE void store_numbers(void *to, int64_t at, int64_t n, enum number kind, f32x16 x) {
    const u16x16 narrow = narrow_bf16(x);
    if (kind == FLOAT32)
        memcpy((float *)to + at, &x, (size_t)n * sizeof(float));
    else
        memcpy((uint16_t *)to + at, &narrow, (size_t)n * sizeof(uint16_t));
}

GRU_INLINE f32x16 load_floats(const float *from, int64_t at, int64_t n) {
    return load_numbers(from, at, n, FLOAT32);
}

GRU_INLINE void store_floats(float *to, int64_t at, int64_t n, f32x16 x) {
    store_numbers(to, at, n, FLOAT32, x);
}

GRU_INLINE void add_floats(float *to, int64_t at, int64_t n, f32x16 x) {
    store_floats(to, at, n, load_floats(to, at, n) + x);
}

#endif
