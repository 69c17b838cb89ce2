// The Fourier transform of one real signal, whose numbers lie side by side in a vector's lanes.
//
//     X[k] = sum_n  x[n] e^(-2 pi i k n / N)          N a multiple of 128, k = 0 .. M, M = N / 2
//
// fft.h takes 8 signals at once, which is quickest where there are 8. Where there is one, the M complex numbers
// z[m] = x[2m] + i x[2m + 1] are cut into 8 parts, every eighth number of which goes to one lane; fft.h
// transforms the parts side by side, and one transform of 8 numbers across the parts is left:
//
//     z          | z0 z1 .. z7 | z8 z9 .. z15 | ...         lane l holds part l: z[8j + l]
//     Z[k + L r] = sum_l  e^(-2 pi i l r / 8) e^(-2 pi i l k / M) part_l[k]          L = M / 8, r = 0 .. 7
//
// Real and imaginary parts lie in arrays of their own: re (M + 16,), im (M + 16,).
#ifndef GRU_FFT_ONE_H
#define GRU_FFT_ONE_H

#include "fft.h"

struct fft_one_plan {
    struct fft_plan parts; // of signals of N / 8 numbers
    const float *twists;   // (L, 2, 8): cosine and sine of -2 pi l k / M
    const float *cosines;  // (M + 1,) of -2 pi k / N
    const float *sines;    // (M + 1,)
};

// Where one transform works: two arrays of (L + 1, 2, 8).
struct fft_one_room {
    float *a, *b;
};

// A transform of 8 numbers: two of 4, of the even and the odd ones.
GRU_INLINE void fft_8(struct fft_number x[8]) {
    const float half = 0.707106781187f; // cosine of pi / 4
    struct fft_number even[4] = {x[0], x[2], x[4], x[6]}, odd[4] = {x[1], x[3], x[5], x[7]};
    fft_4(even);
    fft_4(odd);
    const struct fft_number a = odd[1], b = odd[3];
    odd[1] = (struct fft_number){half * (a.re + a.im), half * (a.im - a.re)};
    odd[2] = fft_quarter_turn(odd[2]);
    odd[3] = (struct fft_number){half * (b.im - b.re), -half * (b.re + b.im)};
    for (int r = 0; r < 4; r++) {
        x[r] = fft_add(even[r], odd[r]);
        x[r + 4] = fft_subtract(even[r], odd[r]);
    }
}

// Numbers k .. k + 7.
GRU_INLINE struct fft_number fft_one_load(const float *re, const float *im, int64_t k) {
    return (struct fft_number){load_f32x8(re + k), load_f32x8(im + k)};
}
GRU_INLINE struct fft_number fft_multiply(struct fft_number x, struct fft_number y) {
    return (struct fft_number){x.re * y.re - x.im * y.im, x.re * y.im + x.im * y.re};
}

// Numbers k .. k + 7 of the transformed parts to Z[k + L r] .. Z[k + 7 + L r].
GRU_INLINE void fft_one_across(const struct fft_one_plan *plan, struct fft_number x[8], int64_t n_parts,
                               int64_t k, float *restrict re, float *restrict im) {
    f32x8 real[8], imaginary[8];
    for (int i = 0; i < 8; i++) {
        const struct fft_number turned = fft_multiply(x[i], fft_load(plan->twists, k + i));
        real[i] = turned.re;
        imaginary[i] = turned.im;
    }
    turn_square(real); // from lanes of parts to lanes of k
    turn_square(imaginary);
    for (int l = 0; l < 8; l++)
        x[l] = (struct fft_number){real[l], imaginary[l]};
    fft_8(x);
    for (int r = 0; r < 8; r++) {
        store_f32x8(re + k + n_parts * r, x[r].re);
        store_f32x8(im + k + n_parts * r, x[r].im);
    }
}

// M complex numbers in place; 64 stay in registers.
static void fft_one_complex(const struct fft_one_plan *plan, struct fft_one_room room, float *restrict re,
                            float *restrict im) {
    const int64_t n_parts = plan->parts.size / 2;
    struct fft_number x[8];
    if (n_parts == 8) {
        for (int64_t j = 0; j < 8; j++)
            x[j] = fft_one_load(re, im, 8 * j);
        fft_8(x);
        fft_one_across(plan, x, 8, 0, re, im);
        return;
    }
    for (int64_t j = 0; j < n_parts; j++)
        fft_store(room.a, j, fft_one_load(re, im, 8 * j));
    const float *parts = fft_complex(&plan->parts, room.a, room.b);
    for (int64_t k = 0; k < n_parts; k += 8) {
        for (int i = 0; i < 8; i++)
            x[i] = fft_load(parts, k + i);
        fft_one_across(plan, x, n_parts, k, re, im);
    }
}

GRU_INLINE f32x8 fft_reversed(f32x8 x) {
    return __builtin_shufflevector(x, x, 7, 6, 5, 4, 3, 2, 1, 0);
}

// Numbers M - k .. M - k - 7, in that order.
GRU_INLINE struct fft_number fft_one_load_mirror(const float *re, const float *im, int64_t M, int64_t k) {
    const int64_t first = M - k - 7;
    return (struct fft_number){fft_reversed(load_f32x8(re + first)), fft_reversed(load_f32x8(im + first))};
}
GRU_INLINE void fft_one_store_both(float *re, float *im, int64_t M, int64_t k, struct fft_number x,
                                   struct fft_number mirror) {
    store_f32x8(re + k, x.re);
    store_f32x8(im + k, x.im);
    store_f32x8(re + M - k - 7, fft_reversed(mirror.re));
    store_f32x8(im + M - k - 7, fft_reversed(mirror.im));
}

// From a signal (N,) to X[0 .. M]; see fft_of_real for the formulas.
static void fft_one_of_real(const struct fft_one_plan *plan, struct fft_one_room room,
                            const float *restrict signal, float *restrict re, float *restrict im) {
    const int64_t M = 4 * plan->parts.size;
    for (int64_t m = 0; m < M; m += 8) {
        const f32x8 a = load_f32x8(signal + 2 * m), b = load_f32x8(signal + 2 * m + 8);
        store_f32x8(re + m, __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14));
        store_f32x8(im + m, __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15));
    }
    fft_one_complex(plan, room, re, im);
    re[M] = re[0];
    im[M] = im[0];
    for (int64_t k = 0; k < M / 2; k += 8) {
        const struct fft_number turn = fft_one_load(plan->cosines, plan->sines, k);
        const struct fft_number a = fft_one_load(re, im, k);
        const struct fft_number b = fft_conjugate(fft_one_load_mirror(re, im, M, k));
        const struct fft_number even = fft_scale(0.5f, fft_add(a, b));
        const struct fft_number odd = fft_scale(0.5f, fft_quarter_turn(fft_subtract(a, b)));
        const struct fft_number turned = fft_multiply(odd, turn);
        fft_one_store_both(re, im, M, k, fft_add(even, turned), fft_conjugate(fft_subtract(even, turned)));
    }
    im[M / 2] = -im[M / 2];
}

// Back from X[0 .. M], which it overwrites, to a signal (N,) times N / 2; see fft_to_real.
static void fft_one_to_real(const struct fft_one_plan *plan, struct fft_one_room room, float *restrict re,
                            float *restrict im, float *restrict signal) {
    const int64_t M = 4 * plan->parts.size;
    for (int64_t k = 0; k < M / 2; k += 8) {
        const struct fft_number turn = fft_one_load(plan->cosines, plan->sines, k);
        const struct fft_number a = fft_conjugate(fft_one_load(re, im, k));
        const struct fft_number b = fft_one_load_mirror(re, im, M, k);
        const struct fft_number even = fft_scale(0.5f, fft_add(a, b));
        const struct fft_number odd = fft_multiply(fft_scale(0.5f, fft_subtract(a, b)), turn);
        const struct fft_number turned = fft_quarter_turn(odd);
        fft_one_store_both(re, im, M, k, fft_add(even, turned), fft_conjugate(fft_subtract(even, turned)));
    }
    fft_one_complex(plan, room, re, im);
    for (int64_t m = 0; m < M; m += 8) {
        const f32x8 a = load_f32x8(re + m), b = -load_f32x8(im + m);
        store_f32x8(signal + 2 * m, __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11));
        store_f32x8(signal + 2 * m + 8, __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15));
    }
}

#endif
