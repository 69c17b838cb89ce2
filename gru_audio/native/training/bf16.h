// bf16: the upper half of a float32, so 8 bits of exponent and 8 of mantissa, held as uint16_t.
//
//     float32   s eeeeeeee mmmmmmm mmmmmmmmmmmmmmmm
//     bf16      s eeeeeeee mmmmmmm                      rounded to the nearest, ties to even
#ifndef GRU_BF16_H
#define GRU_BF16_H

#include "../vectors.h"

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

// float32 from bf16; exact.
GRU_INLINE f32x16 widen_bf16(u16x16 x) {
    return (f32x16)(__builtin_convertvector(x, u32x16) << 16);
}

// bf16 from float32: what the portable form says, of numbers that are finite...
GRU_INLINE u16x16 portable_narrow_bf16(f32x16 x) {
    u32x16 bits = (u32x16)x;
    return __builtin_convertvector((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16, u16x16);
}

// ... in one instruction where there is one; it takes subnormal numbers for 0.
GRU_INLINE u16x16 narrow_bf16(f32x16 x) {
#if defined(__AVX512BF16__)
    return (u16x16)_mm512_cvtneps_pbh((__m512)x);
#else
    return portable_narrow_bf16(x);
#endif
}

// sums[j] + a[2j] b[2j] + a[2j + 1] b[2j + 1], for 16 sums: what the portable form says...
GRU_INLINE f32x16 portable_add_pairs_bf16(f32x16 sums, u16x32 a, u16x32 b) {
    const u32x16 upper = all_u32x16(0xFFFF0000u);
    f32x16 a_even = (f32x16)((u32x16)a << 16), b_even = (f32x16)((u32x16)b << 16); // the lower halves
    f32x16 a_odd = (f32x16)((u32x16)a & upper), b_odd = (f32x16)((u32x16)b & upper);
    return multiply_add_f32x16(a_even, b_even, multiply_add_f32x16(a_odd, b_odd, sums));
}

// ... in one instruction where there is one; it rounds each sum to even and takes subnormal numbers for 0.
GRU_INLINE f32x16 add_pairs_bf16(f32x16 sums, u16x32 a, u16x32 b) {
#if defined(__AVX512BF16__)
    return (f32x16)_mm512_dpbf16_ps((__m512)sums, (__m512bh)a, (__m512bh)b);
#else
    return portable_add_pairs_bf16(sums, a, b);
#endif
}

#endif
