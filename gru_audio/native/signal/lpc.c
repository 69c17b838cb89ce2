// Linear prediction from the mel, see gru_audio/signal/lpc.py: 8 frames at a time, in the lanes of a vector of doubles.
//
//     bands = (W W^T)^+ linear                        power[k] = max(floor, W^T bands)^2     of magnitudes
//     autocorrelation[l] = sum_k  weight[k] power[k] cos(2 pi k l / n_fft)                   l = 0 .. P
//     Levinson and Durbin: autocorrelation -> coefficients a_1 .. a_P and the error's energy
//
//     all arrays here (n, 8):   | value 0 of frames 0 .. 7 | value 1 of frames 0 .. 7 | ...
//
// All sums run in one order, with no fused operation: a frame's bits are the same beside any others and on
// every processor.
#include "../vectors.h"

enum { LPC_LANES = 8 };
#if defined(__AVX512F__)
enum { LPC_SUMS = 8 }; // that go together: as many as the registers hold
#else
enum { LPC_SUMS = 4 };
#endif

static const double LPC_WHITE_NOISE = 1e-4; // of the power: bounds the predictor's dynamic range to 40 dB
static const double LPC_WHITE_NOISE_ABSOLUTE = 1e-9; // keeps silence regular, 24 dB under one 16-bit step

// What leads from the mel to the predictor; K = n_fft / 2 + 1 bins, M bands, P the order.
struct lpc_tables {
    int64_t n_mels, order, n_bins;
    double floor;             // the least value of a bin
    double window_energy;     // of the mel's analysis window
    int64_t is_power;         // 1 if bins hold powers, 0 if magnitudes
    const int64_t *band;      // (K,) the lower of the two filters that reach each bin, at most M - 1
    const double *lower;      // (K,) that filter's weight in the bin
    const double *upper;      // (K,) the next filter's weight
    const double *inverse;    // (M, M)
    const double *weight;     // (K,) of a bin's power, pre-emphasis included
    const double *cosines;    // (P + 1, K / 2 + 1), see lpc_autocorrelation
    const double *lag_window; // (P + 1,)
};

GRU_INLINE f64x8 lpc_at(const double *lanes, int64_t i) {
    return load_f64x8(lanes + i * LPC_LANES);
}
GRU_INLINE void lpc_put(double *lanes, int64_t i, f64x8 x) {
    store_f64x8(lanes + i * LPC_LANES, x);
}

// Some rows of a matrix with row_stride, times lanes (n_inputs, 8).
GRU_INLINE void lpc_sums(const double *restrict rows, int n_rows, int64_t row_stride, int64_t n_inputs,
                         const double *restrict lanes, double *restrict out, int64_t out_step) {
    f64x8 sums[LPC_SUMS] = {{0}};
    for (int64_t i = 0; i < n_inputs; i++) {
        const f64x8 input = lpc_at(lanes, i);
        for (int r = 0; r < n_rows; r++)
            sums[r] += rows[r * row_stride + i] * input;
    }
    for (int r = 0; r < n_rows; r++)
        lpc_put(out, r * out_step, sums[r]);
}

// out[out_step r] = sum_i rows[row_stride r + i] lanes[i].
static void lpc_product(const double *restrict rows, int64_t n_rows, int64_t row_stride, int64_t n_inputs,
                        const double *restrict lanes, double *restrict out, int64_t out_step) {
    int64_t r = 0;
    for (; r + LPC_SUMS <= n_rows; r += LPC_SUMS)
        lpc_sums(rows + r * row_stride, LPC_SUMS, row_stride, n_inputs, lanes, out + r * out_step * LPC_LANES,
                 out_step);
    for (; r < n_rows; r++)
        lpc_sums(rows + r * row_stride, 1, row_stride, n_inputs, lanes, out + r * out_step * LPC_LANES,
                 out_step);
}

// Bin k's weighted power from the bands (M + 1, 8), the last of which is 0.
GRU_INLINE f64x8 lpc_power(const struct lpc_tables *t, const double *restrict bands, int64_t k) {
    const f64x8 floor = all_f64x8(t->floor);
    const f64x8 value = t->lower[k] * lpc_at(bands, t->band[k]) + t->upper[k] * lpc_at(bands, t->band[k] + 1);
    const i64x8 above = (i64x8)(value > floor);
    const f64x8 floored = (f64x8)((above & (i64x8)value) | (~above & (i64x8)floor));
    return t->weight[k] * (t->is_power ? floored : floored * floored);
}

// With H = K - 1, cos(2 pi (H - k) l / n_fft) is cos(2 pi k l / n_fft) for even lags l and its negative for odd ones.
// So bin H - k is folded onto bin k, and half of the products are left. A middle bin folds onto nothing.
static void lpc_autocorrelation(const struct lpc_tables *t, const double *restrict bands,
                                double *restrict even, double *restrict odd, double *restrict out) {
    const int64_t last = t->n_bins - 1, n_folded = last / 2 + 1, n_lags = t->order + 1;
    for (int64_t k = 0; k < n_folded; k++) {
        const f64x8 one = lpc_power(t, bands, k);
        const f64x8 other = k < last - k ? lpc_power(t, bands, last - k) : all_f64x8(0.0);
        lpc_put(even, k, one + other);
        lpc_put(odd, k, one - other);
    }
    lpc_product(t->cosines, (n_lags + 1) / 2, 2 * n_folded, n_folded, even, out, 2);
    lpc_product(t->cosines + n_folded, n_lags / 2, 2 * n_folded, n_folded, odd, out + LPC_LANES, 2);
    for (int64_t lag = 0; lag < n_lags; lag++)
        lpc_put(out, lag, t->lag_window[lag] * lpc_at(out, lag));
    lpc_put(out, 0, lpc_at(out, 0) * (1.0 + LPC_WHITE_NOISE) + LPC_WHITE_NOISE_ABSOLUTE);
}

// Levinson and Durbin's recursion for 8 frames: solved (P + 1, 8) receives P coefficients and the error's energy; previous
// (P, 8) is scratch; the autocorrelation (P + 1, 8) has a positive first row. Source: Makhoul, Linear
// Prediction: A Tutorial Review (1975), eq. 38.
GRU_API void gru_levinson_durbin(const double *restrict autocorrelation, int64_t order,
                                 double *restrict solved, double *restrict previous) {
    f64x8 energy = lpc_at(autocorrelation, 0);
    for (int64_t i = 0; i < order; i++) {
        f64x8 reflection = lpc_at(autocorrelation, i + 1);
        for (int64_t k = 0; k < i; k++)
            reflection -= lpc_at(solved, k) * lpc_at(autocorrelation, i - k);
        reflection /= energy;
        energy *= 1.0 - reflection * reflection;
        memcpy(previous, solved, (size_t)(i * LPC_LANES) * sizeof *solved);
        for (int64_t k = 0; k < i; k++)
            lpc_put(solved, k, lpc_at(solved, k) - reflection * lpc_at(previous, i - 1 - k));
        lpc_put(solved, i, reflection);
    }
    lpc_put(solved, order, energy);
}

// Frames (n_frames, M) to lanes (M, 8); lanes without a frame take the last one's numbers.
static void lpc_take(const float *restrict frames, int64_t n_frames, int64_t n_mels, double *restrict lanes) {
    const float *frame[LPC_LANES];
    for (int r = 0; r < LPC_LANES; r++)
        frame[r] = frames + (r < n_frames ? r : n_frames - 1) * n_mels;
    for (int64_t m = 0; m < n_mels; m++) {
        f64x8 values;
        for (int r = 0; r < LPC_LANES; r++)
            values[r] = frame[r][m];
        lpc_put(lanes, m, values);
    }
}

// How many doubles lpc_predict works in.
GRU_API int64_t gru_lpc_scratch_size(const struct lpc_tables *t) {
    const int64_t n_lags = t->order + 1, n_folded = (t->n_bins - 1) / 2 + 1;
    return LPC_LANES * ((n_lags + 1) + 2 * n_lags + t->n_mels + (t->n_mels + 1) + 2 * n_folded);
}

// The predictors of up to 8 frames from their linear mel (n_frames, M). The scratch's first (P + 2, 8) receive P
// coefficients, the prediction error's RMS a sample and the signal's. Lanes without a frame compute the last frame's.
static void lpc_predict(const struct lpc_tables *t, const float *restrict linear, int64_t n_frames,
                        double *restrict scratch) {
    const int64_t order = t->order, n_lags = order + 1, n_folded = (t->n_bins - 1) / 2 + 1;
    double *results = scratch, *autocorrelation = results + (n_lags + 1) * LPC_LANES;
    double *previous = autocorrelation + n_lags * LPC_LANES, *mel = previous + n_lags * LPC_LANES;
    double *bands = mel + t->n_mels * LPC_LANES, *even = bands + (t->n_mels + 1) * LPC_LANES;
    double *odd = even + n_folded * LPC_LANES;

    lpc_take(linear, n_frames, t->n_mels, mel);
    lpc_product(t->inverse, t->n_mels, t->n_mels, t->n_mels, mel, bands, 1);
    lpc_put(bands, t->n_mels, all_f64x8(0.0));
    lpc_autocorrelation(t, bands, even, odd, autocorrelation);
    gru_levinson_durbin(autocorrelation, order, results, previous);
    const f64x8 error = lpc_at(results, order), signal = lpc_at(autocorrelation, 0); // their energies
    lpc_put(results, order, __builtin_elementwise_sqrt(error / t->window_energy));
    lpc_put(results, n_lags, __builtin_elementwise_sqrt(signal / t->window_energy));
}

// The predictors of any number of frames: results (P + 2, F) as of lpc_predict.
GRU_API void gru_linear_prediction(const struct lpc_tables *t, const float *restrict linear, int64_t n_frames,
                                   double *restrict scratch, double *restrict results) {
    for (int64_t first = 0; first < n_frames; first += LPC_LANES) {
        const int64_t n = n_frames - first < LPC_LANES ? n_frames - first : LPC_LANES;
        lpc_predict(t, linear + first * t->n_mels, n, scratch);
        for (int64_t i = 0; i < t->order + 2; i++)
            memcpy(results + i * n_frames + first, scratch + i * LPC_LANES, (size_t)n * sizeof *results);
    }
}
