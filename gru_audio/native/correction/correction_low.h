// The low end of the spectral correction: the lowest kilohertz or so, in many rounds that cost little.
//
// There the mel tells each harmonic, so that rounds go on to gain where those of the whole spectrum have long ended.
// A frame's first bins are the spectrum of the same audio at a lower rate, where hops and windows are as many samples
// fewer:
//
//     frame at the full rate   | x x x x x x x x x x x x x x x x |   N samples,     bins 0 .. N / 2
//     at a lower rate          | x       x       x       x       |   N / 4 samples, bins 0 .. N / 8
//
// A round goes on a little the way of the one before:
//
//     now = window estimate;   what is transformed is   now + momentum (now - before)
//
// Source: Perraudin, Balazs & Sondergaard, A fast Griffin-Lim algorithm (2013).
#ifndef GRU_CORRECTION_LOW_H
#define GRU_CORRECTION_LOW_H

#include "correction_frame.h"

GRU_INLINE int64_t correction_n_samples(const struct correction_plan *plan,
                                        const struct correction_windows *windows) {
    return (plan->n_open - 1) * windows->hop + windows->width;
}

// What is known of all open windows' samples: closed frames, and the first `n_known` of the open ones.
static void correction_sum(const struct correction_plan *plan, const struct correction_windows *windows,
                           const struct correction_frames *frames, const uint8_t *valid, int64_t n_known,
                           float *restrict sums) {
    memcpy(sums, frames->sums, (size_t)correction_n_samples(plan, windows) * sizeof(float));
    for (int64_t g = 0; g < n_known; g++) {
        const float *restrict frame = frames->open + g * windows->width;
        float *restrict sum = sums + g * windows->hop;
        for (int64_t i = 0; i < windows->width && valid[g]; i++)
            sum[i] += frame[i];
    }
}

// The squares of these frames' windows.
static void correction_weigh(const struct correction_plan *plan, const struct correction_windows *windows,
                             const struct correction_frames *frames, const uint8_t *valid, int64_t n_known,
                             float *restrict weights) {
    memcpy(weights, frames->weights, (size_t)correction_n_samples(plan, windows) * sizeof(float));
    for (int64_t g = 0; g < n_known; g++) {
        const float *restrict window = windows->window;
        float *restrict weight = weights + g * windows->hop;
        for (int64_t i = 0; i < windows->width && valid[g]; i++)
            weight[i] += window[i] * window[i];
    }
}

// Closes the oldest open frame, and moves everything on by a hop.
static void correction_close(const struct correction_plan *plan, const struct correction_windows *windows,
                             const struct correction_frames *frames, bool is_valid) {
    const int64_t hop = windows->hop, width = windows->width;
    const int64_t kept = correction_n_samples(plan, windows) - hop;
    for (int64_t i = 0; i < width && is_valid; i++) {
        frames->sums[i] += frames->open[i];
        frames->weights[i] += windows->window[i] * windows->window[i];
    }
    memmove(frames->sums, frames->sums + hop, (size_t)kept * sizeof(float));
    memmove(frames->weights, frames->weights + hop, (size_t)kept * sizeof(float));
    memset(frames->sums + kept, 0, (size_t)hop * sizeof(float));
    memset(frames->weights + kept, 0, (size_t)hop * sizeof(float));
    memmove(frames->open, frames->open + width, (size_t)((plan->n_open - 1) * width) * sizeof(float));
}

// The raw audio under the newest window, at the low end's rate.
static void correction_take_low(const struct correction_plan *plan, const struct correction_stream *stream,
                                const struct correction_room *room) {
    const struct correction_low *low = &plan->low;
    const int64_t newest = plan->n_open - 1, width = low->windows.width, n_bins = low->n_fft / 2;
    const float scale = 2.0f / (float)plan->mel.fft.size;
    correction_window(plan, room, stream->audio + newest * plan->mel.hop);
    correction_spectrum(plan, room);
    for (int64_t k = 0; k < n_bins; k++) {
        room->re[k] *= scale;
        room->im[k] *= scale;
    }
    room->re[n_bins] = room->im[n_bins] = 0.0f; // half the rate: no band has it whole
    fft_one_to_real(&low->fft, room->fft, room->re, room->im, room->signal);
    memcpy(stream->low_raw + newest * width, room->signal, (size_t)width * sizeof(float));
}

// Gains (M,) of the bands of sizes (K,), 16 at a time: from the first bin of these bands to their last. A band without
// bins, narrower than they are apart, has its first and its end at 0.
static void correction_low_gains(const struct correction_plan *plan, const float *restrict size,
                                 const float *restrict targets, float *restrict gains) {
    const struct correction_low *low = &plan->low;
    const int64_t n_bands = correction_padded(low->n_mels);
    const f32x16 smallest = all_f32x16(1e-20f), limit = all_f32x16(low->limit);
    for (int64_t m = 0; m < n_bands; m += 16) {
        const int64_t last = m + 15 < low->n_mels ? m + 15 : low->n_mels - 1;
        int64_t end = 0;
        for (int64_t band = m; band <= last; band++) {
            const int64_t its = plan->mel.first_bin[band] + plan->mel.length[band];
            end = its > end ? its : end;
        }
        f32x16 sums[4] = {{0}, {0}, {0}, {0}}, target = smallest;
        for (int64_t k = plan->mel.first_bin[m]; k < end; k += 4)
            for (int i = 0; i < 4; i++)
                sums[i] += size[k + i] * load_f32x16(low->filters + (k + i) * n_bands + m);
        const f32x16 found = low->unit * ((sums[0] + sums[1]) + (sums[2] + sums[3]));
        memcpy(&target, targets + m, (size_t)(last - m + 1) * sizeof(float));
        const f32x16 ratio = max_f32x16(target, smallest) / max_f32x16(found, smallest);
        const f32x16 gain = min_f32x16(max_f32x16(ratio, 1.0f / limit), limit);
        store_f32x16(gains + m, plan->mel.is_power ? __builtin_elementwise_sqrt(gain) : gain);
    }
}

// Scales the bins of a spectrum so that its mel comes nearer to the targets (M,):
//
//     gain of bin k = 1 + sum_m  share[m][k] (gain of band m - 1)
static void correction_scale_low(const struct correction_plan *plan, const struct correction_room *room,
                                 const float *restrict targets) {
    const struct correction_low *low = &plan->low;
    const int64_t n_bins = correction_padded(low->n_fft / 2 + 1);
    correction_sizes(plan, room, n_bins);
    correction_low_gains(plan, room->gains, targets, room->bands);
    const float scale = 2.0f / (float)low->n_fft; // of the way back
    int64_t first = 0;                            // the first band that reaches as far as bin k
    for (int64_t k = 0; k < n_bins; k += 16) {
        f32x16 gain = all_f32x16(1.0f);
        while (first < low->n_mels && plan->mel.first_bin[first] + plan->mel.length[first] <= k)
            first++;
        for (int64_t m = first; m < low->n_mels && plan->mel.first_bin[m] < k + 16; m++)
            gain += (room->bands[m] - 1.0f) * load_f32x16(low->shares + m * n_bins + k);
        correction_scale_bins(room, k, gain * scale);
    }
}

// How much of the raw audio stands for what is missing to `full`, and one over the sum of all weights. The second round
// is the first to know the newest frame; from there on they stay.
static void correction_weigh_low(const struct correction_plan *plan, const struct correction_stream *stream,
                                 const struct correction_room *room, int64_t n_known) {
    const struct correction_low *low = &plan->low;
    correction_weigh(plan, &low->windows, &stream->low, stream->valid, n_known, room->weights);
    for (int64_t i = 0; i < correction_n_samples(plan, &low->windows); i++) {
        const float weight = room->weights[i], missing = plan->full > weight ? plan->full - weight : 0.0f;
        room->low_missing[i] = missing;
        room->low_inverse[i] = 1.0f / (weight + missing);
    }
}

// One round: the low end of every open frame anew from the same estimate.
static void correction_low_round(const struct correction_plan *plan, const struct correction_stream *stream,
                                 const struct correction_room *room, int64_t round) {
    const struct correction_low *low = &plan->low;
    const int64_t width = low->windows.width, n_bins = low->n_fft / 2 + 1;
    const float momentum = round ? low->momentum : 0.0f;
    const int64_t n_known = round ? plan->n_open : plan->n_open - 1;
    correction_sum(plan, &low->windows, &stream->low, stream->valid, n_known, room->estimate);
    if (round < 2)
        correction_weigh_low(plan, stream, room, n_known);
    if (!round)
        memset(room->low_before, 0, (size_t)(plan->n_open * width) * sizeof(float));
    for (int64_t g = 0; g < plan->n_open; g++) {
        if (!stream->valid[g])
            continue;
        const float *sum = room->estimate + g * low->windows.hop, *raw = stream->low_raw + g * width;
        const float *missing = room->low_missing + g * low->windows.hop,
                    *inverse = room->low_inverse + g * low->windows.hop;
        float *before = room->low_before + g * width, *frame = stream->low.open + g * width;
        for (int64_t i = 0; i < width; i++) {
            const float now = (low->windows.window[i] * sum[i] + missing[i] * raw[i]) * inverse[i];
            room->signal[i] = now + momentum * (now - before[i]);
            before[i] = now;
        }
        memset(room->signal + width, 0, (size_t)(low->n_fft - width) * sizeof(float));
        fft_one_of_real(&low->fft, room->fft, room->signal, room->re, room->im);
        correction_scale_low(plan, room, stream->targets + g * plan->mel.n_mels);
        room->re[n_bins - 1] = room->im[n_bins - 1] = 0.0f;
        memcpy(room->low_re + g * n_bins, room->re, (size_t)n_bins * sizeof(float));
        memcpy(room->low_im + g * n_bins, room->im, (size_t)n_bins * sizeof(float));
        fft_one_to_real(&low->fft, room->fft, room->re, room->im, room->signal);
        for (int64_t i = 0; i < width; i++)
            frame[i] = room->signal[i] * low->windows.window[i];
    }
}

// Puts the low end of frame g in its place in a spectrum; where it ends, one passes into the other.
static void correction_put_low(const struct correction_plan *plan, const struct correction_room *room,
                               int64_t g) {
    const int64_t n_bins = plan->low.n_fft / 2 + 1;
    const float *restrict re = room->low_re + g * n_bins, *restrict im = room->low_im + g * n_bins;
    for (int64_t k = 0; k < n_bins; k++) {
        room->re[k] += plan->low.covered[k] * (re[k] - room->re[k]);
        room->im[k] += plan->low.covered[k] * (im[k] - room->im[k]);
    }
}

#endif
