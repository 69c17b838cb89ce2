// Runs the core's loops on made-up numbers. It prints a line for each: its name and, where every instruction
// set must give the same bits, a digest of them. It ends with 1 where a result is wrong by itself. run.py
// compiles it for each set and compares the lines; buffers are of the exact sizes, so that a sanitizer sees
// what reaches beyond.
#include "../../gru_audio/native/engine.c"

#include <stdio.h>
#include <stdlib.h>

// Memory, numbers, results

enum { MOST_BUFFERS = 256 };
static void *buffers[MOST_BUFFERS];
static int n_buffers, n_wrong;

static void *take(size_t n_bytes) {
    if (n_buffers == MOST_BUFFERS)
        exit(2);
    return buffers[n_buffers++] = calloc(n_bytes ? n_bytes : 1, 1);
}

static void give_back_all(void) {
    while (n_buffers)
        free(buffers[--n_buffers]);
}

static float *zeros(int64_t n) {
    return take((size_t)n * sizeof(float));
}
static double *doubles(int64_t n) {
    return take((size_t)n * sizeof(double));
}
static int64_t *whole(int64_t n) {
    return take((size_t)n * sizeof(int64_t));
}

static uint64_t random_state = 1;

// 31 random bits. Source: Knuth's MMIX.
static int64_t random_bits(void) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (int64_t)(random_state >> 33);
}
static float uniform(void) {
    return (float)(random_bits() >> 7) / 16777216.0f;
}
// About normal, of a deviation: the sum of uniform numbers, exact and so the same everywhere.
static float normal(float deviation) {
    float sum = -6.0f;
    for (int i = 0; i < 12; i++)
        sum += uniform();
    return deviation * sum;
}
static float *normals(int64_t n, float deviation) {
    float *numbers = zeros(n);
    for (int64_t i = 0; i < n; i++)
        numbers[i] = normal(deviation);
    return numbers;
}
static int64_t *random_codes(int64_t n, int64_t n_classes) {
    int64_t *codes = whole(n);
    for (int64_t i = 0; i < n; i++)
        codes[i] = random_bits() % n_classes;
    return codes;
}

// Of 2 pi part, by Taylor's series, so that no library of mathematics has a say in it.
static double cosine(double part) {
    const double x = 6.283185307179586 * (part - (double)(int64_t)(part + (part < 0 ? -0.5 : 0.5)));
    double term = 1.0, sum = 1.0;
    for (int i = 1; i < 16; i++)
        sum += term *= -x * x / (2 * i - 1) / (2 * i);
    return sum;
}
static double sine(double part) {
    return cosine(part - 0.25);
}

static void expect(const char *what, bool holds) {
    if (!holds) {
        printf("%s: WRONG\n", what);
        n_wrong++;
    }
}

// FNV-1a.
static void digest(const char *what, const void *bytes, size_t n_bytes) {
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < n_bytes; i++)
        hash = (hash ^ ((const uint8_t *)bytes)[i]) * 1099511628211u;
    printf("%s: %016llx\n", what, (unsigned long long)hash);
}
static void digest_floats(const char *what, const float *numbers, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        expect(what, numbers[i] - numbers[i] == 0.0f); // neither NaN nor infinite
    digest(what, numbers, (size_t)n * sizeof *numbers);
}

static double largest_difference(const float *a, const float *b, int64_t n) {
    double largest = 0.0;
    for (int64_t i = 0; i < n; i++)
        largest = fmax(largest, fabs((double)a[i] - (double)b[i]));
    return largest;
}

// Mu-law

static float *mu_law_edges(int64_t n_classes) {
    float *edges = zeros(n_classes - 1);
    for (int64_t i = 0; i < n_classes - 1; i++) { // any ascending numbers, finest about 0
        const float x = (float)(2 * i + 2 - n_classes) / (float)n_classes;
        edges[i] = x * x * x * 0.9f + x * 0.1f;
    }
    return edges;
}
static float *mu_law_expansion(int64_t n_classes) {
    float *edges = mu_law_edges(n_classes), *expansion = zeros(n_classes);
    for (int64_t i = 1; i < n_classes - 1; i++)
        expansion[i] = 0.5f * (edges[i - 1] + edges[i]);
    expansion[0] = -1.0f;
    expansion[n_classes - 1] = 1.0f;
    return expansion;
}

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
    float *tiles = normals(n_tiles * (n_inputs + 1) * DENSE_WIDTH, deviation);
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
        for (int64_t f = 0; f < FRAMES; f += piece)
            gru_fill_frames(&conditioner, &tables, mel + f * MELS, linear + f * MELS,
                            FRAMES - f < piece ? FRAMES - f : piece, room, scratch, out + f * GATES_OF,
                            readout + f * READOUT_OF, coefficients + f * ORDER, scales + f,
                            scales + FRAMES + f, lags + f);
        if (!first) {
            first = out;
            digest_floats("frames", out + 4 * GATES_OF, FRAMES * width - 4 * GATES_OF);
            digest("lags", lags, FRAMES * sizeof *lags);
        }
        expect("frames", !memcmp(first, out, (size_t)(FRAMES * width) * sizeof *out));
    }
}

// The sample loop in float32: in pieces the same bits as in one, and each code's probability.

static struct gru_float32_blocks blocks_of(int64_t n_groups, int64_t n_columns) {
    const int64_t n_blocks = n_groups * n_columns / 4;
    int64_t *ends = whole(n_groups), *columns = whole(n_blocks), n = 0;
    for (int64_t group = 0; group < n_groups; group++) {
        for (int64_t column = 0; column < n_columns; column += 4)
            if (random_bits() % 3)
                columns[n++] = column;
        ends[group] = n;
    }
    return (struct gru_float32_blocks){ends, columns, normals(64 * n, 0.2f)};
}

static void test_float32(int64_t n_samples_a_step, int64_t order, bool is_shaped) {
    enum { FRAMES = 4, HOP = 8, SIZE = 20, PADDED = 32, READOUT_OF = 12, CLASSES = 64, PAST = 30 };
    enum { SAMPLES = FRAMES * HOP };
    const int64_t n_step = n_samples_a_step + (order ? n_samples_a_step + 2 : 0);
    const struct gru_float32_network network = {.gru_size = SIZE,
                                                .readout_size = READOUT_OF,
                                                .samples_per_step = n_samples_a_step,
                                                .order = order,
                                                .n_classes = CLASSES,
                                                .recurrent = blocks_of(3 * PADDED / 16, SIZE),
                                                .readout = blocks_of(n_samples_a_step, SIZE),
                                                .step_tables = normals(n_step * CLASSES * 3 * PADDED, 0.5f),
                                                .new_bias = normals(PADDED, 0.2f),
                                                .readout_bias = normals(n_samples_a_step * 16, 0.3f),
                                                .readout_tables = normals(n_step * CLASSES * 16, 0.3f),
                                                .output = normals((CLASSES - 1) * 16, 0.5f),
                                                .output_bias = normals(CLASSES - 1, 0.3f),
                                                .edges = mu_law_edges(CLASSES),
                                                .expansion = mu_law_expansion(CLASSES),
                                                .preemphasis = 0.85f};
    float *uniforms = zeros(SAMPLES), *scale = zeros(FRAMES);
    int64_t *lags = whole(FRAMES), *codes[3];
    for (int i = 0; i < SAMPLES; i++)
        uniforms[i] = uniform();
    for (int f = 0; f < FRAMES; f++) {
        scale[f] = 0.2f;
        lags[f] = f % 2 ? 11 + f : 0;
    }
    const float *gates = normals(FRAMES * 3 * SIZE, 1.0f), *inputs = normals(FRAMES * READOUT_OF, 1.0f);
    const float *coefficients = normals(FRAMES * order, 0.1f), *group_means = normals(MEAN_GROUPS, 0.3f);
    float *audio[3], *probability[3];
    for (int run = 0; run < (is_shaped ? 2 : 3); run++) { // in one; in two pieces; with what was drawn given
        const int64_t n_pieces = run == 1 ? 2 : 1, n_frames = FRAMES / n_pieces;
        codes[run] = random_codes(PAST + SAMPLES, 1); // all 0
        audio[run] = zeros(SAMPLES);
        probability[run] = zeros(SAMPLES);
        float *rebuilt = zeros(order + SAMPLES), *last_audio = zeros(1), *hidden = zeros(SIZE),
              *noise = zeros(3);
        for (int64_t f = 0; f < FRAMES; f += n_frames) {
            const struct gru_block block = {.n_frames = n_frames,
                                            .hop = HOP,
                                            .n_past = PAST,
                                            .gate_inputs = gates + f * 3 * SIZE,
                                            .readout_inputs = inputs + f * READOUT_OF,
                                            .coefficients = coefficients + f * order,
                                            .excitation_scale = scale,
                                            .signal_scale = scale,
                                            .lags = lags + f,
                                            .uniforms = uniforms + f * HOP,
                                            .forced = codes[0] + PAST,
                                            .n_forced = run == 2 ? SAMPLES : 0,
                                            .temperature = 0.9f,
                                            .tail_cut = 0.01f,
                                            .shaping = {.is_on = is_shaped,
                                                        .taps = {0.6f, 0.3f, 0.1f},
                                                        .voiced_temperature = 0.7f,
                                                        .noise = noise,
                                                        .group_means = group_means},
                                            .hidden = hidden,
                                            .codes = codes[run] + f * HOP,
                                            .rebuilt = rebuilt + f * HOP,
                                            .last_audio = last_audio,
                                            .probability = probability[run] + f * HOP,
                                            .audio = audio[run] + f * HOP};
            gru_float32_generate(&network, &block, zeros(5 * PADDED + (n_samples_a_step + 2) * 16));
        }
        expect("float32", !memcmp(audio[0], audio[run], SAMPLES * sizeof(float)));
        expect("float32", !memcmp(codes[0], codes[run], (PAST + SAMPLES) * sizeof(int64_t)));
        expect("float32", !memcmp(probability[0], probability[run], SAMPLES * sizeof(float)));
    }
    for (int t = 0; t < SAMPLES; t++)
        expect("float32", probability[0][t] > 0.0f && probability[0][t] <= 1.0f && codes[0][PAST + t] >= 0 &&
                              codes[0][PAST + t] < CLASSES);
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

// Training: against the formulas, in doubles; these sums may differ in their last bits from set to set.

static double plain_sigmoid(double x) {
    return 1.0 / (1.0 + exp(-x));
}

enum { SCAN_BATCH = 3, SCAN_SIZE = 21 };

// One step without a product: the state after it, and the sum of all its numbers.
static double scan_once(const float *gates, const float *biases, const float *before, float *state) {
    enum { NUMBERS = SCAN_BATCH * SCAN_SIZE };
    float *own_gates = zeros(3 * NUMBERS), *hidden = zeros(2 * NUMBERS), *product = zeros(3 * NUMBERS);
    memcpy(own_gates, gates, 3 * NUMBERS * sizeof *gates);
    memcpy(state, before, NUMBERS * sizeof *before);
    const struct gru_scan scan = {.n_steps = 1,
                                  .n_batch = SCAN_BATCH,
                                  .size = SCAN_SIZE,
                                  .gates = own_gates,
                                  .hidden = hidden,
                                  .biases = biases,
                                  .state = state};
    gru_gates_forward(&scan, 0, product);
    double sum = 0.0;
    for (int i = 0; i < NUMBERS; i++)
        sum += state[i];
    return sum;
}

static void test_scan(void) {
    enum { B = SCAN_BATCH, H = SCAN_SIZE, NUMBERS = B * H };
    float *gates = normals(3 * NUMBERS, 1.0f), *biases = normals(4 * H, 0.5f),
          *before = normals(NUMBERS, 0.5f);
    float *state = zeros(NUMBERS), *above = zeros(NUMBERS), *kept = zeros(3 * NUMBERS);
    scan_once(gates, biases, before, state);
    for (int b = 0; b < B; b++)
        for (int j = 0; j < H; j++) {
            const float *row = gates + 3 * H * b;
            const double r = plain_sigmoid(row[j] + biases[j]), z = plain_sigmoid(row[H + j] + biases[H + j]);
            const double new = tanh(row[2 * H + j] + biases[2 * H + j] + r * biases[3 * H + j]);
            expect("scan", fabs(new + z * (before[b * H + j] - new) - state[b * H + j]) < 1e-5);
        }
    float *hidden = zeros(2 * NUMBERS), *own = zeros(NUMBERS), *grad_biases = zeros(4 * H);
    memcpy(kept, gates, 3 * NUMBERS * sizeof *gates);
    memcpy(hidden, before, NUMBERS * sizeof *before);
    memcpy(own, before, NUMBERS * sizeof *before);
    for (int i = 0; i < NUMBERS; i++)
        above[i] = 1.0f;
    const struct gru_scan_back back = {.scan = {.n_steps = 1,
                                                .n_batch = B,
                                                .size = H,
                                                .gates = kept,
                                                .inner = zeros(NUMBERS),
                                                .hidden = hidden,
                                                .biases = biases,
                                                .state = own},
                                       .above = above,
                                       .grad_product = zeros(3 * NUMBERS),
                                       .grad_biases = grad_biases,
                                       .carried = zeros(NUMBERS)};
    gru_gates_forward(&back.scan, 0, zeros(3 * NUMBERS));
    gru_gates_backward(&back, 0, zeros(NUMBERS));
    for (int i = 0; i < 4 * H; i += 5) { // the slope by a difference
        const float bias = biases[i], step = 0.01f;
        biases[i] = bias + step;
        const double more = scan_once(gates, biases, before, state);
        biases[i] = bias - step;
        const double less = scan_once(gates, biases, before, state);
        biases[i] = bias;
        expect("scan back", fabs((more - less) / (2 * step) - grad_biases[i]) < 2e-3);
    }
}

static void test_rows(void) {
    enum { STEPS = 6, BATCH = 2, FRAMES = 3, ROWS = 4, WIDTH = 37, TABLE = 50 };
    int64_t *rows = random_codes(BATCH * STEPS * ROWS, TABLE);
    float *table = normals(TABLE * WIDTH, 1.0f), *frames = normals(BATCH * FRAMES * WIDTH, 1.0f);
    float *sums = zeros(STEPS * BATCH * WIDTH);
    struct gru_rows r = {.n_steps = STEPS,
                         .n_batch = BATCH,
                         .n_frames = FRAMES,
                         .n_rows = ROWS,
                         .width = WIDTH,
                         .rows = rows,
                         .table = table,
                         .frames = frames,
                         .sums = sums};
    gru_sum_rows(&r);
    for (int k = 0; k < STEPS; k++)
        for (int b = 0; b < BATCH; b++)
            for (int j = 0; j < WIDTH; j++) {
                double sum = frames[(b * FRAMES + k * FRAMES / STEPS) * WIDTH + j];
                for (int i = 0; i < ROWS; i++)
                    sum += table[rows[(b * STEPS + k) * ROWS + i] * WIDTH + j];
                expect("rows", fabs(sum - sums[(k * BATCH + b) * WIDTH + j]) < 1e-5);
            }
    float *grad_table = zeros(TABLE * WIDTH), *grad_frames = zeros(BATCH * FRAMES * WIDTH);
    r.table = grad_table;
    r.frames = grad_frames;
    gru_spread_rows(&r);
    double there = 0.0, back = 0.0; // <sums, sums> = <what was summed, its gradient>
    for (int i = 0; i < STEPS * BATCH * WIDTH; i++)
        there += (double)sums[i] * sums[i];
    for (int i = 0; i < TABLE * WIDTH; i++)
        back += (double)table[i] * grad_table[i];
    for (int i = 0; i < BATCH * FRAMES * WIDTH; i++)
        back += (double)frames[i] * grad_frames[i];
    expect("rows back", fabs(there - back) < 1e-4 * there);
}

static void test_tree_loss(void) {
    enum { SAMPLES = 8, BATCH = 2, FRAMES = 2, ROWS = 3, STRIDE = 2, SIZE = 37, BITS = 6, TABLE = 20 };
    enum { NODES = (1 << BITS) - 1, HIDDEN = SAMPLES * BATCH * SIZE };
    float *hidden = normals(HIDDEN, 0.5f), *weight = normals(NODES * SIZE, 0.3f),
          *bias = normals(NODES, 0.3f);
    float *frames = normals(BATCH * FRAMES * SIZE, 0.5f), *table = normals(TABLE * SIZE, 0.5f);
    int64_t *rows = random_codes(BATCH * SAMPLES * ROWS, TABLE),
            *codes = random_codes(BATCH * SAMPLES, NODES + 1);
    float *grad_bias = zeros(NODES);
    struct gru_tree_loss loss = {.n_samples = SAMPLES,
                                 .n_batch = BATCH,
                                 .n_frames = FRAMES,
                                 .n_rows = ROWS,
                                 .stride = STRIDE,
                                 .size = SIZE,
                                 .n_bits = BITS,
                                 .rows = rows,
                                 .codes = codes,
                                 .hidden = hidden,
                                 .frames = frames,
                                 .table = table,
                                 .weight = weight,
                                 .bias = bias,
                                 .grad_hidden = zeros(HIDDEN),
                                 .grad_frames = zeros(BATCH * FRAMES * SIZE),
                                 .grad_table = zeros(TABLE * SIZE),
                                 .grad_weight = zeros(NODES * SIZE),
                                 .grad_bias = grad_bias,
                                 .activation = zeros(SIZE)};
    const double found = gru_tree_loss(&loss);
    double expected = 0.0;
    for (int b = 0; b < BATCH; b++)
        for (int t = 0; t < SAMPLES; t++) {
            double row[SIZE];
            for (int j = 0; j < SIZE; j++) {
                row[j] = hidden[((t / STRIDE * BATCH + b) * STRIDE + t % STRIDE) * SIZE + j];
                row[j] += frames[(b * FRAMES + t * FRAMES / SAMPLES) * SIZE + j];
                for (int i = 0; i < ROWS; i++)
                    row[j] += table[rows[(b * SAMPLES + t) * ROWS + i] * SIZE + j];
            }
            for (int64_t level = BITS - 1, node = 0; level >= 0; level--) {
                const int64_t bit = codes[b * SAMPLES + t] >> level & 1;
                double logit = bias[node];
                for (int j = 0; j < SIZE; j++)
                    logit += weight[node * SIZE + j] * fmax(row[j], 0.0);
                expected -= log(plain_sigmoid(bit ? logit : -logit));
                node = 2 * node + 1 + bit;
            }
        }
    expect("tree loss", fabs(found - expected / (SAMPLES * BATCH)) < 1e-5);
    loss.grad_hidden = NULL;
    for (int node = 0; node < 7; node++) {
        const float own = bias[node], step = 0.01f;
        bias[node] = own + step;
        const double more = gru_tree_loss(&loss);
        bias[node] = own - step;
        const double less = gru_tree_loss(&loss);
        bias[node] = own;
        expect("tree loss back", fabs((more - less) / (2 * step) - grad_bias[node]) < 1e-3);
    }
}

// The spectral correction: nearer to the mel, and in pieces the same bits as in one.

static struct fft_one_plan fft_one_plan_of(int64_t size) {
    const int64_t half = size / 2;
    if (size % 128)
        return (struct fft_one_plan){.parts.size = 0};
    float *twists = zeros(half / 8 * 16), *cosines = zeros(half + 1), *sines = zeros(half + 1);
    for (int64_t k = 0; k < half / 8; k++)
        for (int64_t part = 0; part < 8; part++) {
            twists[16 * k + part] = (float)cosine((double)(k * part) / (double)half);
            twists[16 * k + 8 + part] = (float)-sine((double)(k * part) / (double)half);
        }
    for (int64_t k = 0; k <= half; k++) {
        cosines[k] = (float)cosine((double)k / (double)size);
        sines[k] = (float)-sine((double)k / (double)size);
    }
    return (struct fft_one_plan){fft_plan_of(size / 8), twists, cosines, sines};
}

static struct correction_plan correction_plan_of(int64_t n_fft, int64_t hop, int64_t n_mels) {
    const int64_t before = (n_fft - hop) / 2, n_bins = n_fft / 2 + 1;
    const int64_t reach = (n_fft - before - 1) / hop, n_open = 1 + (before + hop - 1) / hop;
    struct correction_plan plan = {.mel = mel_analysis_of(n_fft, hop, n_fft, n_mels, false),
                                   .fft = fft_one_plan_of(n_fft),
                                   .n_open = n_open,
                                   .reach = reach,
                                   .before = before,
                                   .n_audio = (n_open + reach) * hop + before,
                                   .exponent = 1.5f,
                                   .log_limit = 1.8f,
                                   .full = 0.3f * 0.375f * (float)n_fft / (float)hop};
    const int64_t length = (plan.mel.length[0] + 7) / 8 * 8;
    float *filters = zeros(n_mels * length), *shares = zeros(n_mels * length), *sums = zeros(n_bins);
    int64_t *lengths = whole(n_mels);
    for (int64_t m = 0, n = 0; m < n_mels; m++)
        for (int64_t i = 0; i < plan.mel.length[m]; i++)
            sums[plan.mel.first_bin[m] + i] += plan.mel.filters[n++];
    for (int64_t m = 0, n = 0; m < n_mels; m++) {
        lengths[m] = length;
        for (int64_t i = 0; i < plan.mel.length[m]; i++, n++) {
            const float sum = sums[plan.mel.first_bin[m] + i];
            filters[m * length + i] = plan.mel.filters[n];
            shares[m * length + i] = sum > 0.0f ? plan.mel.filters[n] / sum : 0.0f;
        }
    }
    plan.first_bin = plan.mel.first_bin;
    plan.length = lengths;
    plan.filters = filters;
    plan.shares = shares;
    return plan;
}

// How far the mel of frames `first` to `end` of audio is from the targets (F, M), in nepers.
static double mel_distance(const struct correction_plan *plan, const float *audio, const float *targets,
                           int64_t first, int64_t end) {
    const struct mel_analysis *mel = &plan->mel;
    const int64_t n = (end - first) * mel->n_mels;
    float *found = zeros(n);
    double sum = 0.0;
    gru_mel(mel, audio + first * mel->hop - plan->before, end - first, zeros(gru_mel_scratch_size(mel)),
            found);
    for (int64_t i = 0; i < n; i++)
        sum += fabs(log(found[i] / targets[first * mel->n_mels + i]));
    return sum / (double)n;
}

static void test_correction(int64_t n_fft) {
    enum { FRAMES = 24, HOP = 20, MELS = 7, ROUNDS = 3, FIRST = 5, END = 15 };
    const struct correction_plan plan = correction_plan_of(n_fft, HOP, MELS);
    const int64_t delay = plan.n_open - 1 + plan.reach, n_samples = correction_n_samples(&plan);
    float *raw = normals(FRAMES * HOP, 0.1f), *targets = zeros(FRAMES * MELS), *out = NULL;
    for (int i = 0; i < FRAMES * MELS; i++)
        targets[i] = 0.5f + 4.0f * uniform();
    for (int64_t piece = 1; piece <= FRAMES; piece += 23) {
        const struct correction_stream stream = {zeros(plan.n_audio),       zeros(n_samples),
                                                 zeros(n_samples),          zeros(plan.n_open * n_fft),
                                                 zeros((delay + 1) * MELS), take((size_t)plan.n_open),
                                                 take((size_t)delay + 1)};
        float *audio = zeros(FRAMES * HOP), *scratch = zeros(gru_correction_scratch_size(&plan));
        uint8_t valid[FRAMES];
        memset(valid, 1, sizeof valid);
        memcpy(audio, raw, FRAMES * HOP * sizeof *raw);
        for (int64_t f = 0; f < FRAMES; f += piece)
            gru_correct(&plan, &stream, ROUNDS, piece, audio + f * HOP, targets + f * MELS, valid + f,
                        scratch);
        for (int64_t f = 0; f < FRAMES; f++)
            expect("correction", valid[f] == (f >= delay));
        expect("correction", !out || !memcmp(out, audio, FRAMES * HOP * sizeof *out));
        out = audio;
    }
    const double before = mel_distance(&plan, raw, targets, FIRST, END);
    expect("correction", mel_distance(&plan, out + delay * HOP, targets, FIRST, END) < 0.6 * before);
    digest_floats("correction", out, FRAMES * HOP);
}

// Products block by block

static uint16_t *halves(int64_t n, float deviation) {
    uint16_t *numbers = take((size_t)n * sizeof *numbers);
    for (int64_t i = 0; i < n; i++) {
        const float x = normal(deviation);
        uint32_t bits;
        memcpy(&bits, &x, sizeof bits);
        numbers[i] = (uint16_t)(bits >> 16);
    }
    return numbers;
}
static double half(uint16_t number) {
    const uint32_t bits = (uint32_t)number << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return (double)x;
}

static void test_block_products(int64_t block_outputs) {
    enum { INPUTS = 48, OUTPUTS = 32, ROWS = 11 };
    const int64_t block_inputs = 64 / block_outputs, n_lines = OUTPUTS / block_outputs;
    int64_t *starts = whole(n_lines + 1), *places = whole(OUTPUTS * INPUTS / 64), n_blocks = 0;
    for (int64_t line = 0; line < n_lines; line++) {
        for (int64_t i = 0; i < INPUTS; i += block_inputs)
            if (random_bits() % 2)
                places[n_blocks++] = i;
        starts[line + 1] = n_blocks;
    }
    const uint16_t *weights = halves(64 * n_blocks, 0.3f), *inputs = halves(ROWS * INPUTS, 1.0f);
    float *out = zeros(ROWS * OUTPUTS);
    const struct gru_blocks blocks = {.n_inputs = INPUTS,
                                      .n_outputs = OUTPUTS,
                                      .block_outputs = block_outputs,
                                      .block_inputs = block_inputs,
                                      .starts = starts,
                                      .places = places,
                                      .weights = weights};
    gru_multiply_blocks(&blocks, inputs, ROWS, out);
    for (int64_t row = 0; row < ROWS; row++)
        for (int64_t o = 0; o < OUTPUTS; o++) {
            const int64_t line = o / block_outputs;
            double sum = 0.0;
            for (int64_t b = starts[line]; b < starts[line + 1]; b++)
                for (int64_t i = 0; i < block_inputs; i++)
                    sum += half(weights[64 * b + o % block_outputs * block_inputs + i]) *
                           half(inputs[row * INPUTS + places[b] + i]);
            expect("block products", fabs(sum - out[row * OUTPUTS + o]) < 1e-4);
        }
}

static void test_outer_products(void) {
    enum { INPUTS = 48, OUTPUTS = 32, ROWS = 300, CHUNK_NUMBERS = 128 };
    int64_t *starts = whole(OUTPUTS / 16 + 1), *places = whole(OUTPUTS * INPUTS / 64), n_blocks = 0;
    for (int64_t band = 0; band < OUTPUTS / 16; band++) {
        for (int64_t i = 0; i < INPUTS; i += 4)
            if (random_bits() % 2)
                places[n_blocks++] = i;
        starts[band + 1] = n_blocks;
    }
    const uint16_t *outputs = halves(ROWS * OUTPUTS, 1.0f), *inputs = halves(ROWS * INPUTS, 1.0f);
    float *total = zeros(OUTPUTS * INPUTS);
    const struct gru_outer_products products = {.n_rows = ROWS,
                                                .n_outputs = OUTPUTS,
                                                .n_inputs = INPUTS,
                                                .stride = OUTPUTS,
                                                .block_inputs = 4,
                                                .starts = starts,
                                                .places = places,
                                                .outputs = outputs,
                                                .inputs = inputs,
                                                .of_outputs =
                                                    take(OUTPUTS * CHUNK_NUMBERS * sizeof(uint32_t)),
                                                .of_inputs = take(INPUTS * CHUNK_NUMBERS * sizeof(uint32_t)),
                                                .sums = zeros(n_blocks * 128),
                                                .total = total};
    gru_sum_outer_products(&products);
    for (int64_t band = 0; band < OUTPUTS / 16; band++)
        for (int64_t b = starts[band]; b < starts[band + 1]; b++)
            for (int64_t o = 16 * band; o < 16 * band + 16; o++)
                for (int64_t i = places[b]; i < places[b] + 4; i++) {
                    double sum = 0.0;
                    for (int64_t row = 0; row < ROWS; row++)
                        sum += half(outputs[row * OUTPUTS + o]) * half(inputs[row * INPUTS + i]);
                    expect("outer products", fabs(sum - total[o * INPUTS + i]) < 1e-3);
                }
}

// The sample loop in int8: every set draws the same samples; in pieces the same as in one.

enum { INT8_PAIRS = 9, INT8_SIZE = INT8_PAIRS * PAIR_UNITS, INT8_PADDED = 320, INT8_READOUT = 32 };
enum { INT8_READOUT_PADDED = QUAD_UNITS };

// Bytes that add_two_products can add in 16 bits.
static int8_t *small_bytes(int64_t n) {
    int8_t *bytes = take((size_t)n);
    for (int64_t i = 0; i < n; i++)
        bytes[i] = (int8_t)(random_bits() % 121 - 60);
    return bytes;
}
static int32_t *whole_32(int64_t n) {
    return take((size_t)n * sizeof(int32_t));
}
static float *repeated(int64_t n, float value) {
    float *numbers = zeros(n);
    for (int64_t i = 0; i < n; i++)
        numbers[i] = value;
    return numbers;
}

// Adds each of a block's 16 rows up.
static void sum_rows_of_block(const int8_t *block, int32_t *rows) {
    for (int i = 0; i < INT8_BLOCK_BYTES; i++)
        rows[i / FOUR_COLUMNS] += block[i];
}

// The first code of each bucket of floats, as packing.py makes it.
static int16_t *first_codes_of(int64_t n_classes, int64_t bucket_bits, const float *edges,
                               int64_t *n_buckets) {
    const int64_t n_positive = (0x3F800000 >> bucket_bits) + 1;
    int16_t *codes = take((size_t)(2 * n_positive) * sizeof *codes);
    *n_buckets = 2 * n_positive;
    for (int64_t i = 1 - n_positive; i < n_positive; i++) {
        const int32_t ordered = (int32_t)((uint32_t)i << bucket_bits);
        const int32_t bits = ordered >= 0 ? ordered : ordered ^ 0x7FFFFFFF;
        float least;
        memcpy(&least, &bits, sizeof least);
        codes[i + n_positive] = (int16_t)code_of(least, edges, (int32_t)n_classes);
    }
    return codes;
}

static struct gru_int8_network int8_network_of(int64_t n_samples, int64_t order, int64_t bits) {
    enum { COUNT = 5, BLOCKS_A_PAIR = 3 * COUNT * 2, N_BLOCKS = INT8_PAIRS * BLOCKS_A_PAIR };
    const int64_t n_tables = n_samples + (order ? n_samples + 2 : 0), n_classes = 1 << bits;
    const int64_t n_groups = INT8_READOUT / GROUP_UNITS,
                  n_readout_blocks = INT8_PAIRS * n_samples * n_groups * 8;
    const int64_t n_subtrees = bits > 8 ? 1 + 16 + 256 : 1 + 16, n_sums = n_samples * INT8_READOUT_PADDED;
    int8_t *blocks = small_bytes(N_BLOCKS * INT8_BLOCK_BYTES);
    int8_t *readout_blocks = small_bytes(n_readout_blocks * INT8_BLOCK_BYTES);
    uint16_t *columns = take(N_BLOCKS * sizeof *columns);
    int32_t *gate_sums = whole_32(3 * INT8_PADDED), *readout_sums = whole_32(n_sums);
    for (int64_t i = 0; i < N_BLOCKS; i++) { // by pair, gate, block, group of the pair
        const int64_t gate = i % BLOCKS_A_PAIR / (2 * COUNT), group = i / BLOCKS_A_PAIR * 2 + i % 2;
        columns[i] = (uint16_t)(random_bits() % (INT8_SIZE / FOUR_COLUMNS) * FOUR_COLUMNS);
        sum_rows_of_block(blocks + INT8_BLOCK_BYTES * i,
                          gate_sums + gate * INT8_PADDED + group * GROUP_UNITS);
    }
    for (int64_t i = 0; i < n_readout_blocks; i++) { // by pair, sample, group, four columns
        const int64_t group = i / 8 % n_groups, sample = i / 8 / n_groups % n_samples;
        sum_rows_of_block(readout_blocks + INT8_BLOCK_BYTES * i,
                          readout_sums + sample * INT8_READOUT_PADDED + group * GROUP_UNITS);
    }
    float *gate_units = zeros(INT8_PADDED * 3);
    int16_t *own_weights = take(INT8_PADDED * 3 * sizeof *own_weights);
    for (int64_t i = 0; i < INT8_PADDED * 3; i++) {
        gate_units[i] = 0.08f + 0.08f * uniform();
        own_weights[i] = (int16_t)(random_bits() % 4001 - 2000);
    }
    float *edges = zeros(n_classes), *plain_edges = mu_law_edges(n_classes);
    memcpy(edges, plain_edges, (size_t)(n_classes - 1) * sizeof *edges);
    edges[n_classes - 1] = NAN;
    struct gru_int8_network network = {
        .gru_size = INT8_SIZE,
        .readout_size = INT8_READOUT,
        .samples_per_step = n_samples,
        .order = order,
        .bits = bits,
        .n_pairs = INT8_PAIRS,
        .n_readout_groups = n_groups,
        .n_reset_blocks = COUNT,
        .n_update_blocks = COUNT,
        .n_new_blocks = COUNT,
        .blocks = blocks,
        .columns = columns,
        .gate_units = gate_units,
        .own_weights = own_weights,
        .step_tables = small_bytes(n_tables * n_classes * 3 * INT8_PADDED),
        .gate_factors = repeated(3 * INT8_PADDED, 3e4f),
        .gate_sums = gate_sums,
        .new_bias = whole_32(INT8_PADDED),
        .readout_blocks = readout_blocks,
        .readout_units = repeated(INT8_READOUT_PADDED, 0.05f),
        .readout_tables = small_bytes(n_tables * n_classes * INT8_READOUT_PADDED),
        .readout_factors = repeated(INT8_READOUT_PADDED, 1e4f),
        .readout_sums = readout_sums,
        .readout_bias = whole_32(n_sums),
        .readout_input_limit = 100.0f,
        .tree_blocks = small_bytes(n_subtrees * 4 * n_groups * INT8_BLOCK_BYTES),
        .tree_units = repeated(n_subtrees * 16, 3e-7f),
        .tree_bias = normals(n_subtrees * 16, 0.3f),
        .edges = edges,
        .expansion = mu_law_expansion(n_classes),
        .bucket_bits = 26 - bits,
        .preemphasis = 0.85f};
    network.first_codes = first_codes_of(n_classes, network.bucket_bits, plain_edges, &network.n_buckets);
    return network;
}

static struct gru_int8_room int8_room_of(int64_t n_samples) {
    const int64_t n_sums = INT8_PADDED / QUAD_UNITS * INT8_SUMS * QUAD_UNITS;
    const int64_t n_readouts = n_samples * INT8_READOUT_PADDED;
    return (struct gru_int8_room){.hidden = take(INT8_PADDED * sizeof(int16_t)),
                                  .activations = take(INT8_PADDED),
                                  .next_activations = take(INT8_PADDED),
                                  .sums = whole_32(n_sums),
                                  .starts = whole_32(n_sums),
                                  .next_starts = whole_32(n_sums),
                                  .readout_starts = whole_32(n_readouts),
                                  .next_readout_starts = whole_32(n_readouts),
                                  .readout_sums = whole_32(n_readouts),
                                  .row = take(2 * INT8_READOUT_PADDED)};
}

static void test_int8(int64_t n_samples, int64_t order, int64_t bits, bool is_shaped) {
    enum { FRAMES = 6, HOP = 40, PAST = 30, SAMPLES = FRAMES * HOP };
    const struct gru_int8_network network = int8_network_of(n_samples, order, bits);
    float *uniforms = zeros(SAMPLES), *scale = repeated(FRAMES, 0.2f), *audio[3];
    int64_t *lags = whole(FRAMES), *codes[3];
    for (int i = 0; i < SAMPLES; i++)
        uniforms[i] = uniform();
    for (int f = 0; f < FRAMES; f++)
        lags[f] = f % 2 && order ? 11 + f : 0;
    const float *gates = normals(FRAMES * 3 * INT8_SIZE, 1.0f),
                *inputs = normals(FRAMES * INT8_READOUT, 1.0f);
    const float *coefficients = normals(FRAMES * order, 0.1f), *group_means = normals(MEAN_GROUPS, 0.3f);
    for (int run = 0; run < (is_shaped ? 2 : 3); run++) { // in one; in two pieces; with what was drawn given
        const int64_t n_pieces = run == 1 ? 2 : 1, n_frames = FRAMES / n_pieces;
        codes[run] = random_codes(PAST + SAMPLES, 1); // all 0
        audio[run] = zeros(SAMPLES);
        float *rebuilt = zeros(order + SAMPLES), *last_audio = zeros(1), *hidden = zeros(INT8_SIZE);
        float *probability = zeros(SAMPLES), *noise = zeros(3);
        const struct gru_int8_room room = int8_room_of(n_samples);
        for (int64_t f = 0; f < FRAMES; f += n_frames) {
            const struct gru_block block = {.n_frames = n_frames,
                                            .hop = HOP,
                                            .n_past = PAST,
                                            .gate_inputs = gates + f * 3 * INT8_SIZE,
                                            .readout_inputs = inputs + f * INT8_READOUT,
                                            .coefficients = coefficients + f * order,
                                            .excitation_scale = scale,
                                            .signal_scale = scale,
                                            .lags = lags + f,
                                            .uniforms = uniforms + f * HOP,
                                            .forced = codes[0] + PAST,
                                            .n_forced = run == 2 ? SAMPLES : 0,
                                            .temperature = 0.9f,
                                            .tail_cut = 0.01f,
                                            .shaping = {.is_on = is_shaped,
                                                        .taps = {0.6f, 0.3f, 0.1f},
                                                        .voiced_temperature = 0.7f,
                                                        .noise = noise,
                                                        .group_means = group_means},
                                            .hidden = hidden,
                                            .codes = codes[run] + f * HOP,
                                            .rebuilt = rebuilt + f * HOP,
                                            .last_audio = last_audio,
                                            .probability = probability + f * HOP,
                                            .audio = audio[run] + f * HOP};
            gru_int8_generate(&network, &block, &room);
        }
        expect("int8", !memcmp(audio[0], audio[run], SAMPLES * sizeof(float)));
        expect("int8", !memcmp(codes[0], codes[run], (PAST + SAMPLES) * sizeof(int64_t)));
    }
    int n_alike = 0;
    for (int t = 0; t < SAMPLES; t++) {
        expect("int8", codes[0][PAST + t] >= 0 && codes[0][PAST + t] < 1 << bits);
        n_alike += codes[0][PAST + t] == codes[0][PAST];
    }
    expect("int8", n_alike < SAMPLES / 4);
    digest_floats("int8", audio[0], SAMPLES);
}

// Each instruction set's products of bytes are the portable ones.
static void test_byte_products(void) {
    for (int i = 0; i < 100; i++) {
        const int8_t *blocks = small_bytes(2 * INT8_BLOCK_BYTES), *fours = small_bytes(2 * FOUR_COLUMNS);
        int8_t stored[2 * FOUR_COLUMNS];
        for (int k = 0; k < 2 * FOUR_COLUMNS; k++)
            stored[k] = (int8_t)(fours[k] + ACTIVATION_OFFSET);
        const i32x16 start = all_i32x16((int32_t)random_bits());
        const i8x64 a = load_i8x64(blocks), b = load_i8x64(blocks + INT8_BLOCK_BYTES);
        const int32_t four = load_four(stored), next = load_four(stored + FOUR_COLUMNS);
        int32_t expected[16], found[16];
        const i32x16 first = portable_add_product(start, four, a);
        store_i32x16(expected, first);
        store_i32x16(found, add_product(start, four, a));
        expect("byte products", !memcmp(expected, found, sizeof found));
        store_i32x16(expected, portable_add_product(first, next, b));
        store_i32x16(found, total(add_two_products((struct running_sums){start, {0}}, four, a, next, b)));
        expect("byte products", !memcmp(expected, found, sizeof found));
        give_back_all();
    }
}

int main(void) {
    static const int64_t sizes[] = {2, 6, 8, 30, 128, 400, 512, 154};
    void (*const tests[])(void) = {test_codec, test_levinson,  test_prediction,    test_frames,
                                   test_mel,   test_pitch,     test_loudness,      test_scan,
                                   test_rows,  test_tree_loss, test_outer_products};
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        random_state = 1;
        tests[i]();
        give_back_all();
    }
    test_block_products(16);
    test_block_products(4);
    test_correction(128);
    test_correction(80);
    give_back_all();
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        test_fft(sizes[i]);
        give_back_all();
    }
    for (int64_t n = 1; n <= 4; n *= 2)
        for (int64_t order = 0; order < 24; order += 8) {
            test_float32(n, order, order == 8);
            give_back_all();
        }
    test_byte_products();
    for (int64_t n = 1; n <= 4; n *= 2)
        for (int64_t bits = 6; bits <= 10; bits += 2) {
            test_int8(n, n == 4 ? 0 : 8 * n, bits, bits == 6);
            give_back_all();
        }
    printf("%d wrong\n", n_wrong);
    return n_wrong != 0;
}
