// Griffin and Lim's phase retrieval, what the page compares the voice with: audio whose mel is the given one, with no
// network.
//
//     magnitude  = W^T (W W^T)^+ linear mel                              the least-squares spectrum, at least 0
//     audio      = overlapped and added IFFT(magnitude phase)            at first with random phases
//     rebuilt    = FFT(window audio)
//     phase      = (rebuilt - share rebuilt of the round before), brought to length 1
//
//     spectra    (G, K, 2, 8)    groups of 8 frames side by side, as fft.h takes them; K = n_fft / 2 + 1
//
// Source: Perraudin et al., A Fast Griffin-Lim Algorithm (2013), as librosa.griffinlim has it.
#ifndef GRU_GRIFFIN_LIM_H
#define GRU_GRIFFIN_LIM_H

#include "../gru_audio/native/voice/stream.h"

static const float GRIFFIN_LIM_MOMENTUM = 0.99f;

// Where it works, for F frames in G groups.
struct griffin_lim {
    const struct gru_audio_voice *voice;
    int64_t n_frames, n_groups, n_bins, n_samples; // of the audio with what lies around it
    float *phase, *rebuilt;                        // (G, K, 2, 8)
    float *magnitude;                              // (G, K, 8)
    float *a, *b;                                  // (K, 2, 8) each
    float *frames;                                 // (8, width)
    float *linear;                                 // (F, M)
    float *audio, *weights;                        // (n_samples,)
    double *lanes;                                 // (2 M + 1, 8)
};

static int64_t griffin_lim_divide(struct griffin_lim *g, uint8_t *first) {
    const struct mel_analysis *mel = &g->voice->correction.mel;
    struct memory memory = {first, 0};
    g->n_groups = (g->n_frames + FRAME_LANES - 1) / FRAME_LANES;
    g->n_bins = mel_n_bins(mel);
    g->n_samples = (g->n_frames - 1) * mel->hop + mel->fft.size;
    const int64_t spectrum = g->n_bins * FFT_STEP;
    g->phase = memory_floats(&memory, g->n_groups * spectrum);
    g->rebuilt = memory_floats(&memory, g->n_groups * spectrum);
    g->magnitude = memory_floats(&memory, g->n_groups * g->n_bins * FRAME_LANES);
    g->a = memory_floats(&memory, spectrum);
    g->b = memory_floats(&memory, spectrum);
    g->frames = memory_floats(&memory, FRAME_LANES * mel->fft.size);
    g->linear = memory_floats(&memory, g->n_frames * mel->n_mels);
    g->audio = memory_floats(&memory, g->n_samples);
    g->weights = memory_floats(&memory, g->n_samples);
    g->lanes = memory_take(&memory, (2 * mel->n_mels + 1) * LPC_LANES, sizeof(double));
    return memory.size;
}

static int64_t griffin_lim_lanes(const struct griffin_lim *g, int64_t group) {
    const int64_t left = g->n_frames - group * FRAME_LANES;
    return left < FRAME_LANES ? left : FRAME_LANES;
}

// The magnitudes, by the tables of linear prediction, which begin in the same way.
static void griffin_lim_magnitudes(const struct griffin_lim *g) {
    const struct lpc_tables *t = &g->voice->prediction;
    double *mel = g->lanes, *bands = mel + t->n_mels * LPC_LANES;
    for (int64_t group = 0; group < g->n_groups; group++) {
        lpc_take(g->linear + group * FRAME_LANES * t->n_mels, griffin_lim_lanes(g, group), t->n_mels, mel);
        lpc_product(t->inverse, t->n_mels, t->n_mels, t->n_mels, mel, bands, 1);
        lpc_put(bands, t->n_mels, all_f64x8(0.0));
        for (int64_t k = 0; k < g->n_bins; k++) {
            const f64x8 value =
                t->lower[k] * lpc_at(bands, t->band[k]) + t->upper[k] * lpc_at(bands, t->band[k] + 1);
            const f32x8 bin = max_f32x8(__builtin_convertvector(value, f32x8), all_f32x8(0.0f));
            store_f32x8(g->magnitude + (group * g->n_bins + k) * FRAME_LANES,
                        t->is_power ? __builtin_elementwise_sqrt(bin) : bin);
        }
    }
}

static struct fft_number griffin_lim_unit(struct fft_number x) {
    const f32x8 size = __builtin_elementwise_sqrt(x.re * x.re + x.im * x.im) + 1e-20f;
    return (struct fft_number){x.re / size, x.im / size};
}

// The audio of all spectra magnitude * phase.
static void griffin_lim_synthesize(const struct griffin_lim *g) {
    const struct mel_analysis *mel = &g->voice->correction.mel;
    const int64_t first_of_window = (mel->fft.size - mel->width) / 2, last = g->n_bins - 1;
    memset(g->audio, 0, (size_t)g->n_samples * sizeof *g->audio);
    for (int64_t group = 0; group < g->n_groups; group++) {
        for (int64_t k = 0; k < g->n_bins; k++) {
            const f32x8 size = load_f32x8(g->magnitude + (group * g->n_bins + k) * FRAME_LANES);
            struct fft_number x = fft_load(g->phase, group * g->n_bins + k);
            x = (struct fft_number){size * x.re, size * x.im};
            if (k == 0 || k == last)
                x.im = all_f32x8(0.0f);
            fft_store(g->a, k, x);
        }
        const float *signals = fft_to_real(&mel->fft, g->a, g->b);
        const int64_t n_lanes = griffin_lim_lanes(g, group);
        lanes_to_rows(signals, mel->width, g->frames, mel->fft.size, n_lanes);
        for (int64_t lane = 0; lane < n_lanes; lane++) {
            float *sum = g->audio + (group * FRAME_LANES + lane) * mel->hop + first_of_window;
            for (int64_t i = 0; i < mel->width; i++)
                sum[i] += g->frames[lane * mel->fft.size + i] * mel->window[i] * 2.0f / (float)mel->fft.size;
        }
    }
    for (int64_t i = 0; i < g->n_samples; i++)
        g->audio[i] = g->weights[i] > 1e-6f ? g->audio[i] / g->weights[i] : 0.0f;
}

// The sums of the windows' squares.
static void griffin_lim_weigh(const struct griffin_lim *g) {
    const struct mel_analysis *mel = &g->voice->correction.mel;
    const int64_t first_of_window = (mel->fft.size - mel->width) / 2;
    memset(g->weights, 0, (size_t)g->n_samples * sizeof *g->weights);
    for (int64_t f = 0; f < g->n_frames; f++)
        for (int64_t i = 0; i < mel->width; i++)
            g->weights[f * mel->hop + first_of_window + i] += mel->window[i] * mel->window[i];
}

// New phases from the audio.
static void griffin_lim_analyse(const struct griffin_lim *g, bool is_first) {
    const struct mel_analysis *mel = &g->voice->correction.mel;
    const float share = is_first ? 0.0f : GRIFFIN_LIM_MOMENTUM / (1.0f + GRIFFIN_LIM_MOMENTUM);
    const float *first = g->audio + (mel->fft.size - mel->width) / 2;
    for (int64_t group = 0; group < g->n_groups; group++) {
        const float *spectra =
            mel_spectra(mel, first + group * FRAME_LANES * mel->hop, griffin_lim_lanes(g, group), g->a, g->b);
        for (int64_t k = 0; k < g->n_bins; k++) {
            const int64_t at = group * g->n_bins + k;
            const struct fft_number now = fft_load(spectra, k), before = fft_load(g->rebuilt, at);
            fft_store(g->phase, at, griffin_lim_unit(fft_subtract(now, fft_scale(share, before))));
            fft_store(g->rebuilt, at, now);
        }
    }
}

// Bytes that gru_audio_griffin_lim works in.
GRU_API size_t gru_audio_griffin_lim_size(const gru_audio_voice *voice, size_t n_frames) {
    struct griffin_lim g = {.voice = voice, .n_frames = (int64_t)n_frames};
    return (size_t)griffin_lim_divide(&g, NULL) + VOICE_ALIGNMENT;
}

// Audio (n_frames * hop,) of at least one mel frame (n_frames, M), in some rounds. Behind the last window, which may end
// before the last hop where frames are centred, there is silence.
GRU_API void gru_audio_griffin_lim(const gru_audio_voice *voice, const float *mel, size_t n_frames,
                                   size_t n_rounds, void *memory, float *audio) {
    struct griffin_lim g = {.voice = voice, .n_frames = (int64_t)n_frames};
    griffin_lim_divide(&g, aligned_in(memory));
    const struct voice_numbers *n = voice->numbers;
    gru_mel_rescale(&voice->scale, mel, g.n_frames * n->n_mels, true, g.linear);
    griffin_lim_magnitudes(&g);
    griffin_lim_weigh(&g);
    struct random random;
    random_begin(&random, 0);
    random_fill(&random, g.n_groups * g.n_bins * FFT_STEP, g.phase);
    for (int64_t i = 0; i < g.n_groups * g.n_bins; i++) {
        struct fft_number x = fft_load(g.phase, i);
        x = (struct fft_number){x.re - 0.5f, x.im - 0.5f};
        fft_store(g.phase, i, griffin_lim_unit(x));
    }
    for (size_t round = 0; round < n_rounds; round++) {
        griffin_lim_synthesize(&g);
        griffin_lim_analyse(&g, round == 0);
    }
    griffin_lim_synthesize(&g);
    const int64_t n_wanted = g.n_frames * n->hop_samples, n_made = g.n_samples - mel_n_mirrored(n);
    for (int64_t i = 0; i < n_wanted; i++)
        audio[i] = i < n_made ? g.audio[mel_n_mirrored(n) + i] : 0.0f;
    for (int64_t i = 1; i < n_wanted; i++)
        audio[i] += (float)n->mel_preemphasis * audio[i - 1];
}

#endif
