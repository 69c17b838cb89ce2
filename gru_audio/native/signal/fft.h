// The discrete Fourier transform of real signals: 8 signals at a time, in the lanes of a vector.
//
//     X[k] = sum_n  x[n] e^(-2 pi i k n / N)         N even, k = 0 .. N / 2
//
//     signals    x   (N, 8)            | x[0] of signals 0 .. 7 | x[1] of signals 0 .. 7 | ...
//     spectra    X   (N / 2 + 1, 2, 8) | real X[0] of 0 .. 7 | imaginary X[0] of 0 .. 7 | real X[1] ..
//
// The N real numbers count as M = N / 2 complex ones, z[m] = x[2m] + i x[2m + 1], which is how they lie in
// memory anyway. Their transform Z comes from passes, one for each factor of M; X then follows from Z[k] and
// Z[M - k]. Nothing is fused and every lane stands for itself, so that a signal's bits are the same beside
// any others and on every processor.
#ifndef GRU_FFT_H
#define GRU_FFT_H

#include "lanes.h"

enum { FFT_STEP = 2 * FRAME_LANES }; // floats from one complex number to the next

struct fft_plan {
    int64_t size;          // N
    int64_t n_factors;     // of M, each at least 2; their product is M
    const int64_t *factor; // (n_factors,)
    const float *turns;    // (N, 2) cosine and sine of -2 pi n / N
};

// A complex number of each lane.
struct fft_number {
    f32x8 re, im;
};

GRU_INLINE struct fft_number fft_load(const float *from, int64_t index) {
    return (struct fft_number){load_f32x8(from + index * FFT_STEP),
                               load_f32x8(from + index * FFT_STEP + FRAME_LANES)};
}
GRU_INLINE void fft_store(float *to, int64_t index, struct fft_number x) {
    store_f32x8(to + index * FFT_STEP, x.re);
    store_f32x8(to + index * FFT_STEP + FRAME_LANES, x.im);
}
GRU_INLINE struct fft_number fft_add(struct fft_number a, struct fft_number b) {
    return (struct fft_number){a.re + b.re, a.im + b.im};
}
GRU_INLINE struct fft_number fft_subtract(struct fft_number a, struct fft_number b) {
    return (struct fft_number){a.re - b.re, a.im - b.im};
}
GRU_INLINE struct fft_number fft_scale(float factor, struct fft_number x) {
    return (struct fft_number){factor * x.re, factor * x.im};
}
// -i x and the conjugate of x.
GRU_INLINE struct fft_number fft_quarter_turn(struct fft_number x) {
    return (struct fft_number){x.im, -x.re};
}
GRU_INLINE struct fft_number fft_conjugate(struct fft_number x) {
    return (struct fft_number){x.re, -x.im};
}
// x times the turn (cosine, sine).
GRU_INLINE struct fft_number fft_turn(struct fft_number x, const float *turn) {
    return (struct fft_number){x.re * turn[0] - x.im * turn[1], x.re * turn[1] + x.im * turn[0]};
}

// Transforms of p numbers in place, p being 2 to 5.
GRU_INLINE void fft_2(struct fft_number *x) {
    const struct fft_number a = x[0], b = x[1];
    x[0] = fft_add(a, b);
    x[1] = fft_subtract(a, b);
}
GRU_INLINE void fft_3(struct fft_number *x) {
    const float sine = 0.866025403784f; // of 2 pi / 3, whose cosine is -1 / 2
    const struct fft_number sum = fft_add(x[1], x[2]);
    const struct fft_number middle = fft_subtract(x[0], fft_scale(0.5f, sum));
    const struct fft_number side = fft_quarter_turn(fft_scale(sine, fft_subtract(x[1], x[2])));
    x[0] = fft_add(x[0], sum);
    x[1] = fft_add(middle, side);
    x[2] = fft_subtract(middle, side);
}
GRU_INLINE void fft_4(struct fft_number *x) {
    const struct fft_number a = fft_add(x[0], x[2]), b = fft_subtract(x[0], x[2]);
    const struct fft_number c = fft_add(x[1], x[3]), d = fft_quarter_turn(fft_subtract(x[1], x[3]));
    x[0] = fft_add(a, c);
    x[1] = fft_add(b, d);
    x[2] = fft_subtract(a, c);
    x[3] = fft_subtract(b, d);
}
GRU_INLINE void fft_5(struct fft_number *x) {
    const float cosine_1 = 0.309016994375f, cosine_2 = -0.809016994375f; // of 2 pi / 5 and 4 pi / 5
    const float sine_1 = 0.951056516295f, sine_2 = 0.587785252292f;
    const struct fft_number a = fft_add(x[1], x[4]), b = fft_add(x[2], x[3]);
    const struct fft_number c = fft_subtract(x[1], x[4]), d = fft_subtract(x[2], x[3]);
    const struct fft_number middle_1 = fft_add(x[0], fft_add(fft_scale(cosine_1, a), fft_scale(cosine_2, b)));
    const struct fft_number middle_2 = fft_add(x[0], fft_add(fft_scale(cosine_2, a), fft_scale(cosine_1, b)));
    const struct fft_number side_1 = fft_quarter_turn(fft_add(fft_scale(sine_1, c), fft_scale(sine_2, d)));
    const struct fft_number side_2 =
        fft_quarter_turn(fft_subtract(fft_scale(sine_2, c), fft_scale(sine_1, d)));
    x[0] = fft_add(x[0], fft_add(a, b));
    x[1] = fft_add(middle_1, side_1);
    x[2] = fft_add(middle_2, side_2);
    x[3] = fft_subtract(middle_2, side_2);
    x[4] = fft_subtract(middle_1, side_1);
}

// One pass of Stockham's algorithm, after passes whose factors have the product `done`. What is left of M is
// cut into p parts, and number k of each part goes through a transform of p numbers:
//
//     to[done (p k + r) + q] = turn(k r done) sum_j from[done (k + j M / (p done)) + q] e^(-2 pi i j r / p)
//
// for q = 0 .. done - 1. After the last pass the numbers lie in their order.
GRU_INLINE void fft_pass(int p, void (*transform)(struct fft_number *), const struct fft_plan *plan,
                         int64_t done, const float *restrict from, float *restrict to) {
    const int64_t n_parts = plan->size / 2 / p / done;
    struct fft_number x[5];
    for (int64_t k = 0; k < n_parts; k++)
        for (int64_t q = 0; q < done; q++) {
            for (int j = 0; j < p; j++)
                x[j] = fft_load(from, done * (k + j * n_parts) + q);
            transform(x);
            fft_store(to, done * p * k + q, x[0]);
            for (int r = 1; r < p; r++) // a turn of M is two of the table's N
                fft_store(to, done * (p * k + r) + q, fft_turn(x[r], plan->turns + 4 * k * r * done));
        }
}

// The same for any factor, by the definition: p^2 products.
static void fft_plain_pass(int64_t p, const struct fft_plan *plan, int64_t done, const float *restrict from,
                           float *restrict to) {
    const int64_t M = plan->size / 2, n_parts = M / p / done;
    for (int64_t k = 0; k < n_parts; k++)
        for (int64_t q = 0; q < done; q++)
            for (int64_t r = 0; r < p; r++) {
                struct fft_number sum = {{0}, {0}};
                for (int64_t j = 0; j < p; j++) {
                    const float *turn = plan->turns + 4 * (j * r % p) * (M / p);
                    sum = fft_add(sum, fft_turn(fft_load(from, done * (k + j * n_parts) + q), turn));
                }
                fft_store(to, done * (p * k + r) + q, fft_turn(sum, plan->turns + 4 * k * r * done));
            }
}

// The transform of M complex numbers (M, 2, 8). It works in both arrays and gives back the one with the result.
static float *fft_complex(const struct fft_plan *plan, float *x, float *other) {
    int64_t done = 1;
    for (int64_t i = 0; i < plan->n_factors; i++) {
        const int64_t p = plan->factor[i];
        if (p == 2)
            fft_pass(2, fft_2, plan, done, x, other);
        else if (p == 3)
            fft_pass(3, fft_3, plan, done, x, other);
        else if (p == 4)
            fft_pass(4, fft_4, plan, done, x, other);
        else if (p == 5)
            fft_pass(5, fft_5, plan, done, x, other);
        else
            fft_plain_pass(p, plan, done, x, other);
        float *result = other;
        other = x;
        x = result;
        done *= p;
    }
    return x;
}

// Signals (N, 8) to spectra (N / 2 + 1, 2, 8). It works in both arrays, each of (N / 2 + 1, 2, 8), and gives
// back the one with the result.
//
//     X[k] = even + turn(k) odd,  X[M - k] = conj(even - turn(k) odd)
//     even = (Z[k] + conj Z[M - k]) / 2,  odd = -i (Z[k] - conj Z[M - k]) / 2
static float *fft_of_real(const struct fft_plan *plan, float *signals, float *other) {
    const int64_t M = plan->size / 2;
    float *z = fft_complex(plan, signals, other);
    fft_store(z, M, fft_load(z, 0));
    for (int64_t k = 0; 2 * k <= M; k++) {
        const struct fft_number a = fft_load(z, k), b = fft_conjugate(fft_load(z, M - k));
        const struct fft_number even = fft_scale(0.5f, fft_add(a, b));
        const struct fft_number odd = fft_scale(0.5f, fft_quarter_turn(fft_subtract(a, b)));
        const struct fft_number turned = fft_turn(odd, plan->turns + 2 * k);
        fft_store(z, k, fft_add(even, turned));
        fft_store(z, M - k, fft_conjugate(fft_subtract(even, turned)));
    }
    return z;
}

// Back from spectra to signals, times N / 2. It works in both arrays and gives back the one with the result.
// The imaginary parts of X[0] and X[M] must be 0. The way back is the way there of the conjugate:
//
//     conj Z[k] = conj even - i conj odd
//     even = (X[k] + conj X[M - k]) / 2,  odd = (X[k] - conj X[M - k]) conj turn(k) / 2
static float *fft_to_real(const struct fft_plan *plan, float *spectra, float *other) {
    const int64_t M = plan->size / 2;
    for (int64_t k = 0; 2 * k <= M; k++) {
        const struct fft_number a = fft_conjugate(fft_load(spectra, k)), b = fft_load(spectra, M - k);
        const struct fft_number even = fft_scale(0.5f, fft_add(a, b));
        const struct fft_number odd = fft_turn(fft_scale(0.5f, fft_subtract(a, b)), plan->turns + 2 * k);
        const struct fft_number turned = fft_quarter_turn(odd);
        fft_store(spectra, k, fft_add(even, turned));
        fft_store(spectra, M - k, fft_conjugate(fft_subtract(even, turned)));
    }
    float *z = fft_complex(plan, spectra, other);
    for (int64_t m = 0; m < M; m++)
        fft_store(z, m, fft_conjugate(fft_load(z, m)));
    return z;
}

#endif
