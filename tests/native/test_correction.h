// The spectral correction: nearer to the mel, and in pieces the same bits as in one.
#ifndef TEST_CORRECTION_H
#define TEST_CORRECTION_H

#include "test_signal.h"

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

// The low end of a plan whose shares (M, length of a row) are given.
static struct correction_low correction_low_of(const struct correction_plan *plan, int64_t division) {
    const struct mel_analysis *mel = &plan->mel;
    const int64_t size = mel->fft.size / division, width = mel->width / division;
    const int64_t n_bins = size / 2 + 1, row = correction_padded(n_bins), share_row = plan->length[0];
    int64_t n_mels = 0;
    while (n_mels < mel->n_mels && mel->first_bin[n_mels] + mel->length[n_mels] < n_bins)
        n_mels++;
    const int64_t bands = correction_padded(n_mels);
    float *window = zeros(width), *filters = zeros(row * bands), *shares = zeros(n_mels * row),
          *covered = zeros(n_bins);
    for (int64_t i = 0; i < width; i++)
        window[i] = mel->window[i * division];
    for (int64_t m = 0; m < n_mels; m++)
        for (int64_t i = 0; i < mel->length[m]; i++) {
            const int64_t k = mel->first_bin[m] + i;
            filters[k * bands + m] = plan->filters[m * share_row + i];
            shares[m * row + k] = plan->shares[m * share_row + i];
            covered[k] += plan->shares[m * share_row + i];
        }
    return (struct correction_low){.fft = fft_one_plan_of(size),
                                   .windows = {window, mel->hop / division, width},
                                   .n_fft = size,
                                   .n_mels = n_mels,
                                   .n_rounds = 4,
                                   .filters = filters,
                                   .shares = shares,
                                   .covered = covered,
                                   .limit = 6.0f,
                                   .momentum = 0.9f,
                                   .unit = (float)division};
}

// With a low end where the rate is to be divided by more than 1.
static struct correction_plan correction_plan_of(int64_t n_fft, int64_t hop, int64_t n_mels,
                                                 int64_t division) {
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
                                   .floor = 1e-5f,
                                   .contrast_of_bands = 0.1f,
                                   .contrast_of_frames = 0.1f,
                                   .contrast_limit = 0.3f,
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
    plan.length = lengths;
    plan.filters = filters;
    plan.shares = shares;
    if (division > 1)
        plan.low = correction_low_of(&plan, division);
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

static struct correction_frames correction_frames_of(const struct correction_plan *plan,
                                                     const struct correction_windows *windows) {
    const int64_t n_samples = correction_n_samples(plan, windows);
    return (struct correction_frames){zeros(n_samples), zeros(n_samples),
                                      zeros(plan->n_open * windows->width)};
}

static void test_correction(int64_t n_fft, int64_t division) {
    enum { FRAMES = 48, HOP = 20, MELS = 7, ROUNDS = 3, FIRST = 6, END = 15 };
    const struct correction_plan plan = correction_plan_of(n_fft, HOP, MELS, division);
    const struct correction_windows whole = correction_whole(&plan);
    const int64_t delay = plan.n_open - 1 + plan.reach;
    expect("correction", (plan.low.n_mels > 0) == (division > 1));
    float *raw = normals(FRAMES * HOP, 0.1f), *targets = zeros(FRAMES * MELS), *out = NULL;
    for (int i = 0; i < FRAMES * MELS; i++)
        targets[i] = 0.5f + 4.0f * uniform();
    for (int64_t piece = 1; piece <= FRAMES; piece += FRAMES - 1) {
        const struct correction_stream stream = {.audio = zeros(plan.n_audio),
                                                 .logs = zeros((delay + 1) * correction_padded(MELS)),
                                                 .targets = zeros(plan.n_open * MELS),
                                                 .valid = take((size_t)delay + 1),
                                                 .whole = correction_frames_of(&plan, &whole),
                                                 .low = correction_frames_of(&plan, &plan.low.windows),
                                                 .low_raw = zeros(plan.n_open * plan.low.windows.width)};
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

#endif
