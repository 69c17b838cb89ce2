// Between what a filterbank gives and what a contract stores, see gru_audio's MelConfig:
//
//     stored = scale * (ln(max(linear, floor)) / unit) + offset
//     linear = max(e^min((stored - offset) / scale * unit, 30), floor)
//
// Logarithm and exponential are computed in doubles and rounded once, so that every processor gives the same bits,
// and nearly always those of the exact value.
#ifndef GRU_MEL_SCALE_H
#define GRU_MEL_SCALE_H

#include "../vectors.h"

struct mel_scale {
    float unit;   // natural logarithms to one of the contract's
    float scale;  //
    float offset; //
    float floor;  // above 0, and no subnormal number
};

enum { MEL_SCALE_LANES = 8 };
// A mel from elsewhere may hold any number: its exponential is finite, and so are the squares of spectra with such bands.
static const float MEL_LARGEST_EXPONENT = 30.0f;

// e^x for x from -700 to 700, to 1e-13: x = k ln 2 + r, and Taylor's series for r.
GRU_INLINE f64x8 exp_f64x8(f64x8 x) {
    const double rounding = 6755399441055744.0; // 1.5 * 2^52
    const f64x8 shifted = x * 1.4426950408889634 + rounding, k = shifted - rounding;
    const f64x8 r = (x - k * 0.69314718036912382) - k * 1.9082149292705877e-10;
    static const double c[] = {
        1.0,        1.0,         1.0 / 2,      1.0 / 6,       1.0 / 24,       1.0 / 120,      1.0 / 720,
        1.0 / 5040, 1.0 / 40320, 1.0 / 362880, 1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600}; // 1 / n!
    f64x8 sum = all_f64x8(c[12]);
    for (int n = 11; n >= 0; n--)
        sum = sum * r + c[n];
    const i64x8 exponent = ((i64x8)shifted - (i64x8)all_f64x8(rounding) + 1023) << 52;
    return sum * (f64x8)exponent;
}

// ln x of positive, normal x, to 1e-13: see exact_log_f32x16.
GRU_INLINE f64x8 log_f64x8(f64x8 x) {
    const i64x8 bits = (i64x8)x;
    const i64x8 k = (bits - 0x3FE6A09E667F3BCD) >> 52; // 1 / sqrt(2)
    const f64x8 m = (f64x8)(bits - (k << 52));
    const f64x8 s = (m - 1.0) / (m + 1.0), q = s * s;
    f64x8 sum = all_f64x8(1.0 / 19.0);
    for (int n = 17; n > 0; n -= 2)
        sum = sum * q + 1.0 / (double)n;
    return __builtin_convertvector(k, f64x8) * 0.69314718055994531 + 2.0 * s * sum;
}

GRU_INLINE f32x8 max_f32x8(f32x8 a, f32x8 b) {
    const i32x8 holds = a > b;
    return (f32x8)((holds & (i32x8)a) | (~holds & (i32x8)b));
}

GRU_INLINE f32x8 mel_stored_of(const struct mel_scale *scale, f32x8 linear) {
    const f64x8 above = __builtin_convertvector(max_f32x8(linear, all_f32x8(scale->floor)), f64x8);
    return scale->scale * (__builtin_convertvector(log_f64x8(above), f32x8) / scale->unit) + scale->offset;
}

GRU_INLINE f32x8 mel_linear_of(const struct mel_scale *scale, f32x8 stored) {
    const f32x8 exponent = (stored - scale->offset) / scale->scale * scale->unit;
    const f32x8 below = -max_f32x8(-exponent, all_f32x8(-MEL_LARGEST_EXPONENT));
    const f32x8 limited = max_f32x8(below, all_f32x8(-87.0f)); // under any floor
    const f64x8 power = exp_f64x8(__builtin_convertvector(limited, f64x8));
    return max_f32x8(__builtin_convertvector(power, f32x8), all_f32x8(scale->floor));
}

#endif
