// Fixed-point numbers of 16 bits, 32 in an i16x32: every processor rounds them alike, and holds twice as many in a
// register as of float32.
#ifndef GRU_FIXED_H
#define GRU_FIXED_H

#include "byte_products.h" // the processors' headers

// One register of fixed-point numbers, and one of float32: so many parts make an i16x32.
#if defined(__AVX512BW__)
typedef __m512i fixed_part;
typedef __m512 float_part;
#elif defined(__AVX2__)
typedef __m256i fixed_part;
typedef __m256 float_part;
#else
typedef i16x8 fixed_part;
typedef f32x4 float_part;
#endif

enum { FIXED_PARTS = sizeof(i16x32) / sizeof(fixed_part) };

union fixed_parts {
    i16x32 whole;
    fixed_part part[FIXED_PARTS];
};
union float_parts {
    f32x16 half[2];
    float_part part[2 * FIXED_PARTS];
};

// multiply_part: a b / 32768, rounded to the nearest; a and b are not both -32768.
// narrow_part: each number to the nearest whole one, an even one from halfway, cut to 16 bits; those of a, then of b.
#if defined(__AVX512BW__)

GRU_INLINE fixed_part multiply_part(fixed_part a, fixed_part b) {
    return _mm512_mulhrs_epi16(a, b);
}
GRU_INLINE fixed_part narrow_part(float_part a, float_part b) {
    const __m512i turns = _mm512_packs_epi32(_mm512_cvtps_epi32(a), _mm512_cvtps_epi32(b));
    return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), turns); // four of a, of b, ..
}

#elif defined(__AVX2__)

GRU_INLINE fixed_part multiply_part(fixed_part a, fixed_part b) {
    return _mm256_mulhrs_epi16(a, b);
}
GRU_INLINE fixed_part narrow_part(float_part a, float_part b) {
    const __m256i turns = _mm256_packs_epi32(_mm256_cvtps_epi32(a), _mm256_cvtps_epi32(b));
    return _mm256_permute4x64_epi64(turns, 0xD8); // four of a, of b, ..
}

#elif defined(__ARM_NEON)

GRU_INLINE fixed_part multiply_part(fixed_part a, fixed_part b) {
    return (fixed_part)vqrdmulhq_s16((int16x8_t)a, (int16x8_t)b);
}
GRU_INLINE fixed_part narrow_part(float_part a, float_part b) {
    return (fixed_part)vcombine_s16(vqmovn_s32(vcvtnq_s32_f32((float32x4_t)a)),
                                    vqmovn_s32(vcvtnq_s32_f32((float32x4_t)b)));
}

#elif defined(__wasm_simd128__)

GRU_INLINE fixed_part multiply_part(fixed_part a, fixed_part b) {
    return (fixed_part)wasm_i16x8_q15mulr_sat((v128_t)a, (v128_t)b);
}
GRU_INLINE fixed_part narrow_part(float_part a, float_part b) {
    return (fixed_part)wasm_i16x8_narrow_i32x4(wasm_i32x4_trunc_sat_f32x4(wasm_f32x4_nearest((v128_t)a)),
                                               wasm_i32x4_trunc_sat_f32x4(wasm_f32x4_nearest((v128_t)b)));
}

#else

// From both halves of the products: twice the upper one, and the lower one's two highest bits, rounded.
GRU_INLINE fixed_part multiply_part(fixed_part a, fixed_part b) {
    const i32x8 products = __builtin_convertvector(a, i32x8) * __builtin_convertvector(b, i32x8);
    const i16x8 upper = __builtin_convertvector(products >> 16, i16x8), lower = a * b;
    return 2 * upper + (((lower >> 14 & 3) + 1) >> 1);
}
GRU_INLINE fixed_part narrow_part(float_part a, float_part b) {
#if defined(__SSE2__)
    return (fixed_part)_mm_packs_epi32(_mm_cvtps_epi32((__m128)a), _mm_cvtps_epi32((__m128)b));
#else
    const f32x8 x = __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7);
    const i32x8 less = x < -32768.0f, more = x > 32767.0f;
    const i32x8 whole = (i32x8)(x + 12582912.0f) - 0x4B400000; // 1.5 * 2^23
    return __builtin_convertvector((less & -32768) | (more & 32767) | (whole & ~(less | more)), i16x8);
#endif
}

#endif

GRU_INLINE i16x32 multiply_fixed(i16x32 a, i16x32 b) {
    union fixed_parts x = {a}, y = {b};
    for (int k = 0; k < FIXED_PARTS; k++)
        x.part[k] = multiply_part(x.part[k], y.part[k]);
    return x.whole;
}

// Sums beyond 16 bits are cut to them.
GRU_INLINE i16x32 add_fixed(i16x32 a, i16x32 b) {
    return __builtin_elementwise_add_sat(a, b);
}

GRU_INLINE i16x32 narrow_to_fixed(f32x16 a, f32x16 b) {
    const union float_parts x = {{a, b}};
    union fixed_parts y;
    for (int k = 0; k < FIXED_PARTS; k++)
        y.part[k] = narrow_part(x.part[2 * k], x.part[2 * k + 1]);
    return y.whole;
}

#endif
