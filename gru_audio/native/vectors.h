// Vectors: fixed numbers of lanes in clang's vector types, which become whatever registers a processor has.
//
// An f32x16 is one AVX-512 register, two of AVX2, four of SSE, NEON or WebAssembly:
//
//     lane     0    1    2         15
//            +----+----+----+ ... +----+
//            | x0 | x1 | x2 |     | x15|     a + b, a * b, 2.0f * a, a < b work lane by lane
//            +----+----+----+ ... +----+
//
// A comparison gives lanes of whole numbers, -1 where it holds and 0 elsewhere.
// x.lo and x.hi are a vector's halves, x.even and x.odd every other lane. No operation here depends on the processor's
// instructions, with one exception that says so: multiply_add.
#ifndef GRU_VECTORS_H
#define GRU_VECTORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(_WIN32)
#define GRU_API __declspec(dllexport)
#else
#define GRU_API __attribute__((visibility("default")))
#endif

// Vectors of 64 bytes are passed by value, which only inlining makes the same on every instruction set.
#define GRU_INLINE static inline __attribute__((always_inline))

// A vector type and what every type has. A macro, since C has no other way to write it once for many types.
//     load_f32x16(from)      lanes from memory, wherever it begins
//     store_f32x16(to, x)    lanes to memory
//     all_f32x16(x)          x in every lane
#define GRU_VECTOR(name, number, lanes)                                                                      \
    typedef number name __attribute__((ext_vector_type(lanes)));                                             \
    GRU_INLINE name load_##name(const number *from) {                                                        \
        name x;                                                                                              \
        memcpy(&x, from, sizeof x);                                                                          \
        return x;                                                                                            \
    }                                                                                                        \
    GRU_INLINE void store_##name(number *to, name x) {                                                       \
        memcpy(to, &x, sizeof x);                                                                            \
    }                                                                                                        \
    GRU_INLINE name all_##name(number x) {                                                                   \
        return x - (name){0};                                                                                \
    }

GRU_VECTOR(f32x4, float, 4)
GRU_VECTOR(f32x8, float, 8)
GRU_VECTOR(f32x16, float, 16)
GRU_VECTOR(f64x8, double, 8)
GRU_VECTOR(i32x4, int32_t, 4)
GRU_VECTOR(i32x8, int32_t, 8)
GRU_VECTOR(i32x16, int32_t, 16)
GRU_VECTOR(u32x16, uint32_t, 16)
GRU_VECTOR(i64x8, int64_t, 8)
GRU_VECTOR(u64x8, uint64_t, 8)
GRU_VECTOR(i16x8, int16_t, 8)
GRU_VECTOR(i16x32, int16_t, 32)
GRU_VECTOR(u16x16, uint16_t, 16)
GRU_VECTOR(u16x32, uint16_t, 32)
GRU_VECTOR(i8x16, int8_t, 16)
GRU_VECTOR(i8x32, int8_t, 32)
GRU_VECTOR(i8x64, int8_t, 64)

// a b + c in one rounding where the processor has such an instruction, in two elsewhere: the only operation
// here whose last bit depends on the processor. Where all must agree, write a * b + c, or see to it that a b is exact.
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA) || defined(__aarch64__)
#define GRU_MULTIPLY_ADD(a, b, c) __builtin_elementwise_fma((a), (b), (c))
#else
#define GRU_MULTIPLY_ADD(a, b, c) ((a) * (b) + (c))
#endif

GRU_INLINE float multiply_add(float a, float b, float c) {
    return GRU_MULTIPLY_ADD(a, b, c);
}
GRU_INLINE f32x16 multiply_add_f32x16(f32x16 a, f32x16 b, f32x16 c) {
    return GRU_MULTIPLY_ADD(a, b, c);
}

// Where a comparison holds, lanes of a, elsewhere of b.
GRU_INLINE f32x16 select_f32x16(i32x16 holds, f32x16 a, f32x16 b) {
    return (f32x16)((holds & (i32x16)a) | (~holds & (i32x16)b));
}

// The smaller and the larger of two, lane by lane; b where either is NaN.
GRU_INLINE f32x16 min_f32x16(f32x16 a, f32x16 b) {
    return select_f32x16(a < b, a, b);
}
GRU_INLINE f32x16 max_f32x16(f32x16 a, f32x16 b) {
    return select_f32x16(a > b, a, b);
}

// The sum of all lanes, in one order everywhere: halves onto halves.
GRU_INLINE float sum_f32x16(f32x16 x) {
    const f32x8 a = x.lo + x.hi;
    const f32x4 b = a.lo + a.hi;
    return (b[0] + b[2]) + (b[1] + b[3]);
}

// e^x = 2^(k + r), k a whole number and |r| at most a half: the power of k is made from its bits, that of r
// is Taylor's series. x is cut to -80 .. 80, beyond which sigmoid and tanh are flat in float32.
//
//     2^r  ~  1 + r (c1 + r (c2 + r (c3 + r (c4 + r (c5 + r c6)))))        c_n = ln(2)^n / n!
//
// The relative error is under 3e-6; NaN stays NaN. With `fused` it uses multiply_add and is faster; without,
// every instruction set gives the same bits.
GRU_INLINE f32x16 exp_form_f32x16(f32x16 x, bool fused) {
    static const float c[] = {1.0f,           0.69314718056f, 0.24022650696f, 0.05550410866f,
                              0.00961812911f, 0.00133335581f, 0.000154035304f};
    const f32x16 low = all_f32x16(-80.0f), high = all_f32x16(80.0f);
    f32x16 y = min_f32x16(high, max_f32x16(low, x)) * 1.44269504089f;
    // Adding 1.5 * 2^23 rounds to the nearest whole number, whatever the instruction set has for it.
    f32x16 shifted = y + 12582912.0f;
    f32x16 k = shifted - 12582912.0f;
    f32x16 r = y - k;
    f32x16 power = all_f32x16(c[6]);
    for (int n = 5; n >= 0; n--)
        power = fused ? multiply_add_f32x16(power, r, all_f32x16(c[n])) : power * r + c[n];
    i32x16 exponent = ((i32x16)shifted - 0x4B400000 + 127) << 23;
    return power * (f32x16)exponent;
}

// ln x of positive, normal x, the same bits everywhere: x = 2^k m with m from 1 / sqrt(2) to sqrt(2), and
//
//     ln m = 2 (s + s^3 / 3 + s^5 / 5 + s^7 / 7 + s^9 / 9)               s = (m - 1) / (m + 1)
//
// The relative error is under 3e-7.
GRU_INLINE f32x16 exact_log_f32x16(f32x16 x) {
    const i32x16 bits = (i32x16)x;
    const i32x16 k = (bits - 0x3F3504F3) >> 23; // 0x3F3504F3 is 1 / sqrt(2)
    const f32x16 m = (f32x16)(bits - (k << 23));
    const f32x16 s = (m - 1.0f) / (m + 1.0f), q = s * s;
    const f32x16 series = (((q * 0.111111111f + 0.142857143f) * q + 0.2f) * q + 0.333333333f) * q + 1.0f;
    return __builtin_convertvector(k, f32x16) * 0.693147181f + 2.0f * s * series;
}

// e^x, the same bits everywhere, and the faster form.
GRU_INLINE f32x16 exact_exp_f32x16(f32x16 x) {
    return exp_form_f32x16(x, false);
}
GRU_INLINE f32x16 exp_f32x16(f32x16 x) {
    return exp_form_f32x16(x, true);
}

// 1 / (1 + e^-x) and tanh(x) = 2 / (1 + e^-2x) - 1.
GRU_INLINE f32x16 sigmoid_f32x16(f32x16 x) {
    return 1.0f / (1.0f + exp_f32x16(-x));
}
GRU_INLINE f32x16 exact_tanh_f32x16(f32x16 x) {
    return 2.0f / (1.0f + exact_exp_f32x16(-2.0f * x)) - 1.0f;
}
GRU_INLINE f32x16 tanh_f32x16(f32x16 x) {
    return 2.0f / (1.0f + exp_f32x16(-2.0f * x)) - 1.0f;
}

#endif
