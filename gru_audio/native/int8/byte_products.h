// Products of bytes: a block of weights, 16 rows by 4 columns, times four activations.
//
//     block  64 bytes    | w00 w01 w02 w03 | w10 w11 w12 w13 | ... | wF0 wF1 wF2 wF3 |     row by row
//     four   32 bits     | a0 a1 a2 a3 |
//
//     sums[i] += w[i][0] a0 + w[i][1] a1 + w[i][2] a2 + w[i][3] a3
//
// Weights are from -127 to 127. Some processors multiply unsigned bytes by signed ones only: there an activation of
// the state is stored with ACTIVATION_OFFSET added. What is stored is at most 128 in size, and not negative where
// there is an offset. All sums are exact, so every instruction set gives the same.
#ifndef GRU_BYTE_PRODUCTS_H
#define GRU_BYTE_PRODUCTS_H

#include "../vectors.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#elif defined(__wasm_simd128__)
#include <wasm_simd128.h>
#endif

#if defined(__AVX2__) || defined(__wasm_relaxed_simd__)
enum { ACTIVATION_OFFSET = 64 };
#else
enum { ACTIVATION_OFFSET = 0 };
#endif

// Four activations as one number.
GRU_INLINE int32_t load_four(const int8_t *activations) {
    int32_t four;
    memcpy(&four, activations, sizeof four);
    return four;
}

// What all others compute: each byte of a row is brought to the top of its 32 bits, and down with its sign.
GRU_INLINE i32x16 portable_add_product(i32x16 sums, int32_t four, i8x64 block) {
    const u32x16 rows = (u32x16)block;
    for (int c = 0; c < 4; c++) {
        const i32x16 weights = (i32x16)(rows << (24 - 8 * c)) >> 24;
        sums += weights * ((int32_t)((uint32_t)four << (24 - 8 * c)) >> 24);
    }
    return sums;
}

#if defined(__AVX512VNNI__)

GRU_INLINE i32x16 add_product(i32x16 sums, int32_t four, i8x64 block) {
    return (i32x16)_mm512_dpbusd_epi32((__m512i)sums, _mm512_set1_epi32(four), (__m512i)block);
}

#elif defined(__AVXVNNI__)

GRU_INLINE i32x8 add_half_product(i32x8 sums, int32_t four, i32x8 rows) {
    return (i32x8)_mm256_dpbusd_avx_epi32((__m256i)sums, _mm256_set1_epi32(four), (__m256i)rows);
}

#elif defined(__AVX2__)

// Two products side by side are summed in 16 bits: at most 2 * 128 * 127.
GRU_INLINE __m256i product_pairs(int32_t four, i32x8 rows) {
    return _mm256_maddubs_epi16(_mm256_set1_epi32(four), (__m256i)rows);
}
GRU_INLINE i32x8 add_pairs(i32x8 sums, __m256i pairs) {
    return sums + (i32x8)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}
GRU_INLINE i32x8 add_half_product(i32x8 sums, int32_t four, i32x8 rows) {
    return add_pairs(sums, product_pairs(four, rows));
}

#elif defined(__SSE2__) || defined(__ARM_NEON) || defined(__wasm_simd128__)

// Four rows.
#if defined(__wasm_relaxed_simd__)
// What a browser makes of it depends on the processor where an activation is 128: x86-64 multiplies by 128, as is wanted
// here, and ARM by -128. products_are_exact tells.
GRU_INLINE i32x4 add_quarter_product(i32x4 sums, int32_t four, i32x4 rows) {
    const i32x4 fours = {four, four, four, four};
    return (i32x4)wasm_i32x4_relaxed_dot_i8x16_i7x16_add((v128_t)rows, (v128_t)fours, (v128_t)sums);
}
#elif defined(__SSE2__) || defined(__wasm_simd128__)
// The even bytes of each row and the odd ones, widened to 16 bits, whose products are summed in pairs.
GRU_INLINE i32x4 add_quarter_product(i32x4 sums, int32_t four, i32x4 rows) {
    const i32x4 fours = {four, four, four, four};
    const i16x8 even = (i16x8)((i16x8)rows << 8) >> 8, odd = (i16x8)rows >> 8;
    const i16x8 even_a = (i16x8)((i16x8)fours << 8) >> 8, odd_a = (i16x8)fours >> 8;
#if defined(__SSE2__)
    const i32x4 of_even = (i32x4)_mm_madd_epi16((__m128i)even, (__m128i)even_a);
    return sums + of_even + (i32x4)_mm_madd_epi16((__m128i)odd, (__m128i)odd_a);
#else
    return sums + (i32x4)wasm_i32x4_dot_i16x8((v128_t)even, (v128_t)even_a) +
           (i32x4)wasm_i32x4_dot_i16x8((v128_t)odd, (v128_t)odd_a);
#endif
}
#elif defined(__ARM_FEATURE_DOTPROD)
GRU_INLINE i32x4 add_quarter_product(i32x4 sums, int32_t four, i32x4 rows) {
    return (i32x4)vdotq_s32((int32x4_t)sums, (int8x16_t)rows, vreinterpretq_s8_s32(vdupq_n_s32(four)));
}
#else
// Products of two rows in 16 bits, sums of pairs in 16 bits, and of those in 32.
GRU_INLINE i32x4 add_quarter_product(i32x4 sums, int32_t four, i32x4 rows) {
    const int8x16_t weights = (int8x16_t)rows, fours = vreinterpretq_s8_s32(vdupq_n_s32(four));
    const int16x8_t lower = vmull_s8(vget_low_s8(weights), vget_low_s8(fours));
    const int16x8_t upper = vmull_s8(vget_high_s8(weights), vget_high_s8(fours));
    return (i32x4)vpadalq_s16((int32x4_t)sums, vpaddq_s16(lower, upper));
}
#endif

GRU_INLINE i32x8 add_half_product(i32x8 sums, int32_t four, i32x8 rows) {
    sums.lo = add_quarter_product(sums.lo, four, rows.lo);
    sums.hi = add_quarter_product(sums.hi, four, rows.hi);
    return sums;
}

#else

GRU_INLINE i32x16 add_product(i32x16 sums, int32_t four, i8x64 block) {
    return portable_add_product(sums, four, block);
}

#endif

#if !defined(__AVX512VNNI__) && (defined(__SSE2__) || defined(__ARM_NEON) || defined(__wasm_simd128__))
GRU_INLINE i32x16 add_product(i32x16 sums, int32_t four, i8x64 block) {
    const i32x16 rows = (i32x16)block;
    sums.lo = add_half_product(sums.lo, four, rows.lo);
    sums.hi = add_half_product(sums.hi, four, rows.hi);
    return sums;
}
#endif

// Sums of many products, none of which waits for the one before it: two, taken in turn.
struct running_sums {
    i32x16 even, odd;
};

GRU_INLINE i32x16 total(struct running_sums sums) {
    return sums.even + sums.odd;
}

// Two products. Of the four weights that a row of both blocks has in columns 0 and 1, or in 2 and 3, those of one
// sign must not sum up to more than 255 in size: times 128 they then fit into 16 bits. packing.py sees to it.
GRU_INLINE struct running_sums add_two_products(struct running_sums sums, int32_t four, i8x64 block,
                                                int32_t next_four, i8x64 next_block) {
#if defined(__AVX2__) && !defined(__AVXVNNI__) && !defined(__AVX512VNNI__)
    const i32x16 rows = (i32x16)block, next = (i32x16)next_block;
    sums.even.lo = add_pairs(
        sums.even.lo, _mm256_add_epi16(product_pairs(four, rows.lo), product_pairs(next_four, next.lo)));
    sums.even.hi = add_pairs(
        sums.even.hi, _mm256_add_epi16(product_pairs(four, rows.hi), product_pairs(next_four, next.hi)));
#else
    sums.even = add_product(sums.even, four, block);
    sums.odd = add_product(sums.odd, next_four, next_block);
#endif
    return sums;
}

#endif
