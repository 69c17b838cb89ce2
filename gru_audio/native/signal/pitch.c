// What the pitch tracker computes of samples: a filter's output, and the correlation of frames with their
// past; see gru_audio/signal/pitch.py.
//
//     filtered[t] = sum_i  signal[t + i] taps[i]
//
//     products[f, l] = sum_i  span[l + i] span[reach + i]                 i < n, l < n_lags
//
//     span of frame f    |  0  1  2 ..              | reach  ..  reach + n - 1 |        begins at f hop
//                           l .. l + n - 1   past       the frame's window
//
// The products come from transforms, X conj(Y), 8 frames at a time.
#include "fft.h"

enum { SLIDE_WIDTH = 16, SLIDE_VECTORS = 4 }; // places at once, four vectors of them

// out (n_out,) of a signal (n_out + n - 1,) and taps (n,).
GRU_API void gru_filter(const float *restrict signal, int64_t n_out, const float *restrict taps, int64_t n,
                        float *restrict out) {
    int64_t t = 0;
    for (; t + SLIDE_VECTORS * SLIDE_WIDTH <= n_out; t += SLIDE_VECTORS * SLIDE_WIDTH) {
        f32x16 sums[SLIDE_VECTORS] = {{0}};
        for (int64_t i = 0; i < n; i++)
            for (int v = 0; v < SLIDE_VECTORS; v++)
                sums[v] += taps[i] * load_f32x16(signal + t + i + v * SLIDE_WIDTH);
        for (int v = 0; v < SLIDE_VECTORS; v++)
            store_f32x16(out + t + v * SLIDE_WIDTH, sums[v]);
    }
    for (; t < n_out; t++) {
        float sum = 0.0f;
        for (int64_t i = 0; i < n; i++)
            sum += taps[i] * signal[t + i];
        out[t] = sum;
    }
}

// X conj(Y) of spectra (K, 2, 8), times a factor, in place of X.
static void pitch_cross_spectrum(int64_t n_bins, float factor, float *restrict x, const float *restrict y) {
    for (int64_t k = 0; k < n_bins; k++) {
        const struct fft_number a = fft_load(x, k), b = fft_scale(factor, fft_load(y, k));
        fft_store(x, k, (struct fft_number){a.re * b.re + a.im * b.im, a.im * b.re - a.re * b.im});
    }
}

// out (F, n_lags). The plan's size N is at least reach + n, `ones` are N ones, and the scratch holds 4 (N / 2
// + 1) complex numbers of 8 lanes.
GRU_API void gru_correlate(const struct fft_plan *plan, const float *restrict signal, int64_t n_frames,
                           int64_t hop, int64_t reach, int64_t n_lags, int64_t n, const float *restrict ones,
                           float *restrict scratch, float *restrict out) {
    const int64_t N = plan->size, n_bins = N / 2 + 1;
    float *a = scratch, *b = a + n_bins * FFT_STEP, *c = b + n_bins * FFT_STEP, *d = c + n_bins * FFT_STEP;
    for (int64_t f = 0; f < n_frames; f += FRAME_LANES) {
        const int64_t n_some = n_frames - f < FRAME_LANES ? n_frames - f : FRAME_LANES;
        const float *span = signal + f * hop;
        memset(scratch, 0, (size_t)(4 * n_bins * FFT_STEP) * sizeof *scratch);
        windowed_to_lanes(span, hop, n_some, ones, reach + n, a);
        windowed_to_lanes(span + reach, hop, n_some, ones, n, c);
        float *x = fft_of_real(plan, a, b), *other = x == a ? b : a;
        pitch_cross_spectrum(n_bins, 2.0f / (float)N, x, fft_of_real(plan, c, d));
        lanes_to_rows(fft_to_real(plan, x, other), n_lags, out + f * n_lags, n_lags, n_some);
    }
}
