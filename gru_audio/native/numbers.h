// Rows of numbers as training stores them, in bf16 or in float32, read and written 16 at a time.
//
//     row     | x0 .. x15 | x16 .. x31 | ... | the rest, fewer than 16 |
//
// What a loop does with 16 numbers it does with the rest, whose missing lanes are read as 0 and not written.
// `kind` and `n` are constants wherever a loop is inlined, so none of the branches below is left in it.
#ifndef GRU_NUMBERS_H
#define GRU_NUMBERS_H

#include "bf16.h"
#include "vectors.h"

enum number { FLOAT32, BF16 };

enum { LANES = 16 };

// The n numbers from place `at` on, at most 16.
GRU_INLINE f32x16 load_numbers(const void *from, int64_t at, int64_t n, enum number kind) {
    if (kind == BF16) {
        const uint16_t *place = (const uint16_t *)from + at;
        if (n == LANES)
            return widen_bf16(load_u16x16(place));
        u16x16 x = {0};
        memcpy(&x, place, (size_t)n * sizeof *place);
        return widen_bf16(x);
    }
    const float *place = (const float *)from + at;
    if (n == LANES)
        return load_f32x16(place);
    f32x16 x = {0};
    memcpy(&x, place, (size_t)n * sizeof *place);
    return x;
}

GRU_INLINE void store_numbers(void *to, int64_t at, int64_t n, enum number kind, f32x16 x) {
    if (kind == BF16) {
        uint16_t *place = (uint16_t *)to + at;
        const u16x16 narrow = narrow_bf16(x);
        memcpy(place, &narrow, n == LANES ? sizeof narrow : (size_t)n * sizeof *place);
    } else {
        float *place = (float *)to + at;
        memcpy(place, &x, n == LANES ? sizeof x : (size_t)n * sizeof *place);
    }
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
