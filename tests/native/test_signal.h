// Signal processing: the codec, transforms, linear prediction, frame inputs, the mel, pitch and loudness.
#ifndef TEST_SIGNAL_H
#define TEST_SIGNAL_H

#include "made_up.h"

// The codec

static void test_codec(void) {
    enum { FRAMES = 5, HOP = 40, ORDER = 7, CLASSES = 256, SAMPLES = FRAMES * HOP };
    float *scale = zeros(FRAMES), *signal_scale = zeros(FRAMES), *rebuilt = zeros(SAMPLES);
    float *signal = normals(SAMPLES, 0.1f), *audio = zeros(SAMPLES);
    for (int i = 0; i < FRAMES; i++) {
        scale[i] = 0.5f;
        signal_scale[i] = 0.7f;
    }
    int16_t *codes = take(4 * SAMPLES * sizeof *codes);
    const struct gru_closed_loop loop = {.n_samples = SAMPLES,
                                         .hop = HOP,
                                         .order = ORDER,
                                         .n_classes = CLASSES,
                                         .signal = signal,
                                         .coefficients = normals(FRAMES * ORDER, 0.1f),
                                         .excitation_scale = scale,
                                         .signal_scale = signal_scale,
                                         .noise = take(SAMPLES),
                                         .edges = mu_law_edges(CLASSES),
                                         .expansion = mu_law_expansion(CLASSES),
                                         .codes = codes,
                                         .rebuilt = rebuilt};
    gru_closed_loop(&loop);
    expect("codec", largest_difference(signal, rebuilt, SAMPLES) < 0.02); // half of a step at full scale
    digest("codec", codes, 4 * SAMPLES * sizeof *codes);
    gru_de_emphasis(rebuilt, SAMPLES, 0.85f, 0.1f, audio);
    digest_floats("de-emphasis", audio, SAMPLES);
}

// Transforms

static struct fft_plan fft_plan_of(int64_t size) {
    int64_t *factors = whole(64), n_factors = 0, left = size / 2;
    for (int64_t p = 4; left > 1; p = left % p ? (p == 4 ? 2 : p == 2 ? 3 : p + 2) : p)
        for (; left % p == 0; left /= p)
            factors[n_factors++] = p;
    float *turns = zeros(2 * size);
    for (int64_t n = 0; n < size; n++) {
        turns[2 * n] = (float)cosine((double)n / (double)size);
        turns[2 * n + 1] = (float)-sine((double)n / (double)size);
    }
    return (struct fft_plan){size, n_factors, factors, turns};
}

// There and back, and one bin by the definition.
static void test_fft(int64_t size) {
    char name[32];
    snprintf(name, sizeof name, "fft of %d", (int)size);
    const struct fft_plan plan = fft_plan_of(size);
    const int64_t n_bins = size / 2 + 1, bin = size / 3;
    float *signals = normals(size * FRAME_LANES, 1.0f);
    float *a = zeros(n_bins * FFT_STEP), *b = zeros(n_bins * FFT_STEP);
    memcpy(a, signals, (size_t)(size * FRAME_LANES) * sizeof *a);
    float *spectra = fft_of_real(&plan, a, b);
    digest_floats(name, spectra, n_bins * FFT_STEP);
    double re = 0.0, im = 0.0;
    for (int64_t n = 0; n < size; n++) {
        const double part = (double)(n * bin % size) / (double)size;
        re += signals[n * FRAME_LANES] * cosine(part);
        im -= signals[n * FRAME_LANES] * sine(part);
    }
    expect(name, fabs(spectra[bin * FFT_STEP] - re) < 1e-4 * (double)size);
    expect(name, fabs(spectra[bin * FFT_STEP + FRAME_LANES] - im) < 1e-4 * (double)size);
    for (int lane = 0; lane < FRAME_LANES; lane++)
        spectra[FRAME_LANES + lane] = spectra[(n_bins - 1) * FFT_STEP + FRAME_LANES + lane] = 0.0f;
    float *back = fft_to_real(&plan, spectra, spectra == a ? b : a);
    for (int64_t i = 0; i < size * FRAME_LANES; i++)
        back[i] /= (float)(size / 2);
    expect(name, largest_difference(back, signals, size * FRAME_LANES) < 1e-4);
}

// Linear prediction

static void test_levinson(void) {
    enum { ORDER = 12, LANES_OF = LPC_LANES };
    double *correlation = doubles((ORDER + 1) * LANES_OF), *solved = doubles((ORDER + 1) * LANES_OF);
    for (int lane = 0; lane < LANES_OF; lane++) // of noise through a short filter
        for (int lag = 0; lag <= ORDER; lag++)
            correlation[lag * LANES_OF + lane] = lag == 0 ? 1.0 : lag < 4 ? 0.3 / (lag + lane) : 0.0;
    gru_levinson_durbin(correlation, ORDER, solved, doubles(ORDER * LANES_OF));
    for (int lane = 0; lane < LANES_OF; lane++)
        for (int i = 1; i <= ORDER; i++) {
            double left = -correlation[i * LANES_OF + lane];
            for (int k = 1; k <= ORDER; k++)
                left += solved[(k - 1) * LANES_OF + lane] * correlation[abs(i - k) * LANES_OF + lane];
            expect("levinson", fabs(left) < 1e-12);
        }
    digest("levinson", solved, (ORDER + 1) * LANES_OF * sizeof *solved);
}

static struct lpc_tables lpc_tables_of(int64_t n_mels, int64_t order, int64_t n_bins) {
    int64_t *band = whole(n_bins);
    double *lower = doubles(n_bins), *upper = doubles(n_bins), *inverse = doubles(n_mels * n_mels);
    double *weight = doubles(n_bins), *cosines = doubles((order + 1) * ((n_bins - 1) / 2 + 1));
    double *window = doubles(order + 1);
    for (int64_t k = 0; k < n_bins; k++) {
        band[k] = k * (n_mels - 1) / n_bins;
        lower[k] = 1.0 - (upper[k] = (double)uniform());
        weight[k] = 1.0 / (double)n_bins;
    }
    for (int64_t m = 0; m < n_mels * n_mels; m++)
        inverse[m] = m % (n_mels + 1) ? 0.01 * (double)normal(1.0f) : 1.0;
    for (int64_t lag = 0; lag <= order; lag++) {
        window[lag] = 1.0 - 1e-4 * (double)(lag * lag);
        for (int64_t k = 0; k <= (n_bins - 1) / 2; k++)
            cosines[lag * ((n_bins - 1) / 2 + 1) + k] = cosine((double)(lag * k) / (double)(2 * n_bins - 2));
    }
    return (struct lpc_tables){n_mels, order, n_bins,  1e-7,   100.0,   0,     band,
                               lower,  upper, inverse, weight, cosines, window};
}

static void test_prediction(void) {
    enum { FRAMES = 11, MELS = 21, ORDER = 9, BINS = 52 };
    const struct lpc_tables tables = lpc_tables_of(MELS, ORDER, BINS);
    float *linear = zeros(FRAMES * MELS);
    for (int64_t i = 0; i < FRAMES * MELS; i++)
        linear[i] = 0.01f + uniform();
    double *scratch = doubles(gru_lpc_scratch_size(&tables)), *results = doubles((ORDER + 2) * FRAMES);
    gru_linear_prediction(&tables, linear, FRAMES, scratch, results);
    for (int64_t f = 0; f < FRAMES; f++) // the error is less than the signal
        expect("prediction", results[ORDER * FRAMES + f] > 0.0 &&
                                 results[ORDER * FRAMES + f] <= results[(ORDER + 1) * FRAMES + f]);
    digest("prediction", results, (ORDER + 2) * FRAMES * sizeof *results);
}

// The frame inputs: in pieces of any size the same bits as in one.

static struct dense_layer layer_of(int64_t n_outputs, int64_t n_inputs) {
    const int64_t n_tiles = (n_outputs + DENSE_WIDTH - 1) / DENSE_WIDTH;
    const float deviation = 0.6f / (1.0f + 0.02f * (float)n_inputs);
    const int64_t n = n_tiles * (n_inputs + 1) * DENSE_WIDTH;
    float *tiles = normals(n, deviation);
    for (int64_t i = 0; i < n; i++) // 11 bits
        tiles[i] = (float)(int32_t)(512.0f * tiles[i]) / 512.0f;
    return (struct dense_layer){tiles, n_tiles, n_inputs};
}

static void test_frames(void) {
    enum {
        FRAMES = 37,
        MELS = 21,
        LAGS = 19,
        SIZE = 33,
        PITCH = 17,
        GATES_OF = 70,
        READOUT_OF = 10,
        ORDER = 9
    };
    const struct lpc_tables tables = lpc_tables_of(MELS, ORDER, 52);
    const int64_t padded = 48, padded_pitch = 32;
    float *deviation = zeros(MELS);
    for (int m = 0; m < MELS; m++)
        deviation[m] = 1.0f + uniform();
    const struct gru_conditioner conditioner = {
        .n_mels = MELS,
        .n_lag_bins = LAGS,
        .n_gates = GATES_OF,
        .readout_size = READOUT_OF,
        .excitation_range = 8.0,
        .signal_range = 6.0,
        .first_lag = 20.0f,
        .log_lag_range = 1.5f,
        .mean = normals(MELS, 1.0f),
        .deviation = deviation,
        .layers = {layer_of(PITCH, 3 * MELS), layer_of(PITCH, 3 * padded_pitch),
                   layer_of(LAGS + 1, padded_pitch), layer_of(SIZE, 3 * MELS), layer_of(SIZE, 3 * padded),
                   layer_of(SIZE, padded + 2), layer_of(SIZE, padded), layer_of(GATES_OF, padded),
                   layer_of(READOUT_OF, padded)}};
    const int64_t width = GATES_OF + READOUT_OF + ORDER + 2;
    float *mel = normals(FRAMES * MELS, 2.0f), *linear = zeros(FRAMES * MELS), *first = NULL;
    for (int i = 0; i < FRAMES * MELS; i++)
        linear[i] = 0.01f + uniform();
    for (int64_t piece = 1; piece <= FRAMES; piece += piece < 3 ? 1 : 17) {
        float *room = zeros(gru_frame_room_size(&conditioner)), *out = zeros(FRAMES * width);
        float *readout = out + FRAMES * GATES_OF, *coefficients = readout + FRAMES * READOUT_OF;
        float *scales = coefficients + FRAMES * ORDER;
        int64_t *lags = whole(FRAMES);
        double *scratch = doubles(gru_lpc_scratch_size(&tables));
        for (int64_t f = 0; f < FRAMES; f += piece) {
            const struct gru_frames its = {out + f * GATES_OF,       readout + f * READOUT_OF,
                                           coefficients + f * ORDER, scales + f,
                                           scales + FRAMES + f,      lags + f};
            gru_fill_frames(&conditioner, &tables, mel + f * MELS, linear + f * MELS,
                            FRAMES - f < piece ? FRAMES - f : piece, room, scratch, &its);
        }
        if (!first) {
            first = out;
            digest_floats("frames", out + 4 * GATES_OF, FRAMES * width - 4 * GATES_OF);
            digest("lags", lags, FRAMES * sizeof *lags);
        }
        expect("frames", !memcmp(first, out, (size_t)(FRAMES * width) * sizeof *out));
    }
}

// The mel, pitch and loudness

static struct mel_analysis mel_analysis_of(int64_t n_fft, int64_t hop, int64_t width, int64_t n_mels,
                                           bool is_power) {
    const int64_t n_bins = n_fft / 2 + 1, reach = n_bins / (n_mels + 1) + 1;
    float *window = zeros(width), *filters = zeros(n_mels * 2 * reach);
    int64_t *first_bin = whole(n_mels), *length = whole(n_mels), n = 0;
    for (int64_t i = 0; i < width; i++)
        window[i] = (float)(0.5 - 0.5 * cosine((double)i / (double)width));
    for (int64_t m = 0; m < n_mels; m++) { // triangles, each over half of the next
        first_bin[m] = (n_bins - 2 * reach) * m / n_mels;
        length[m] = 2 * reach;
        for (int64_t i = 0; i < 2 * reach; i++)
            filters[n++] = 1.0f - (float)(i < reach ? reach - 1 - i : i - reach) / (float)reach;
    }
    return (struct mel_analysis){fft_plan_of(n_fft), hop,    width,  n_mels, is_power, window,
                                 first_bin,          length, filters};
}

static void test_mel(void) {
    enum { FFT = 80, HOP = 20, WIDTH = 70, MELS = 9, FRAMES = 13, SAMPLES = (FRAMES - 1) * HOP + FFT };
    float *audio = normals(SAMPLES, 0.1f);
    for (int is_power = 0; is_power < 2; is_power++) {
        const struct mel_analysis mel = mel_analysis_of(FFT, HOP, WIDTH, MELS, is_power);
        float *whole_mel = zeros(FRAMES * MELS), *of_frames = zeros(FRAMES * MELS);
        float *scratch = zeros(gru_mel_scratch_size(&mel));
        gru_mel(&mel, audio, FRAMES, scratch, whole_mel);
        digest_floats("mel", whole_mel, FRAMES * MELS);
        for (int64_t f = 0; f < FRAMES; f++)
            gru_mel(&mel, audio + f * HOP, 1, scratch, of_frames + f * MELS);
        expect("mel", !memcmp(whole_mel, of_frames, FRAMES * MELS * sizeof(float)));
    }
}

static void test_pitch(void) {
    enum { FRAMES = 9, HOP = 16, REACH = 40, N = 24, LAGS = 33, FFT = 64, TAPS = 11, OUT = 150 };
    enum { SAMPLES = (FRAMES - 1) * HOP + REACH + N };
    const struct fft_plan plan = fft_plan_of(FFT);
    float *signal = normals(SAMPLES, 0.3f), *ones = zeros(FFT), *out = zeros(FRAMES * LAGS);
    for (int i = 0; i < FFT; i++)
        ones[i] = 1.0f;
    gru_correlate(&plan, signal, FRAMES, HOP, REACH, LAGS, N, ones, zeros(4 * (FFT / 2 + 1) * FFT_STEP), out);
    for (int f = 0; f < FRAMES; f++)
        for (int lag = 0; lag < LAGS; lag++) {
            const float *span = signal + f * HOP;
            double sum = 0.0;
            for (int i = 0; i < N; i++)
                sum += (double)span[lag + i] * (double)span[REACH + i];
            expect("correlation", fabs(sum - out[f * LAGS + lag]) < 1e-5);
        }
    digest_floats("correlation", out, FRAMES * LAGS);
    float *samples = normals(OUT + TAPS - 1, 0.3f), *filtered = zeros(OUT);
    gru_filter(samples, OUT, normals(TAPS, 0.3f), TAPS, filtered);
    digest_floats("filter", filtered, OUT);
}

static void test_loudness(void) {
    enum { SAMPLES = 200 };
    const double coefficients[5] = {1.5, -2.6, 1.2, -1.7, 0.73};
    double *samples = doubles(SAMPLES);
    for (int i = 0; i < SAMPLES; i++)
        samples[i] = (double)normal(0.1f);
    gru_second_order(coefficients, samples, SAMPLES);
    digest("loudness", samples, SAMPLES * sizeof *samples);
}

#endif
