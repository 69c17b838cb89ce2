// One frame of the spectral correction: its bins are scaled so that its mel comes nearer to the one asked for.
//
//     found                = mel bands of |X|,  X = FFT(window audio)
//     log gain of band m   = exponent * clamp(log(target[m] / found[m]))
//     log gain of bin k    = sum_m  share[m][k] log gain of band m
//     frame                = window IFFT(gain X)
#ifndef GRU_CORRECTION_FRAME_H
#define GRU_CORRECTION_FRAME_H

#include "../signal/fft_one.h"
#include "../signal/mel.h"

// How windows lie.
struct correction_windows {
    const float *window; // (width,)
    int64_t hop, width;
};

// The low end, see correction_low.h: K bins, of which the last is not used, and the first M bands.
struct correction_low {
    struct fft_one_plan fft;
    struct correction_windows windows;
    int64_t n_fft, n_mels;
    int64_t n_rounds;      // of its own, before those of the whole spectrum; 0 where there is no low end
    const float *filters;  // (K', M'): K and M up to multiples of 16, zeros behind
    const float *shares;   // (M, K') each filter's share of all filters over the same bin
    const float *covered;  // (K,) the sum of the shares
    float limit, momentum; // of a band's gain; of a round after the first
    float unit;            // of its spectra's mels, in that of the targets
};

// What all streams of a contract share; nothing changes it.
struct correction_plan {
    struct mel_analysis mel;
    struct fft_one_plan fft;   // parts.size is 0 where it does not fit; then mel.fft serves, one lane of it
    const int64_t *length;     // (M,) of filters that begin where the mel's do, up to multiples of 8
    const float *filters;      // end to end, zeros after each filter's end
    const float *shares;       // likewise: each filter's share of all filters over the same bin
    int64_t n_open, reach;     // frames that are open; frames that a window reaches into after its own
    int64_t before, n_audio;   // samples from a window's first to its frame's; of `audio`
    float exponent, log_limit; // of a band's gain; of what is missing or too much in one round
    float full;                // of the windows' squares: what is missing to it, the raw audio stands for
    float silent;              // targets up to here are those of the floor; 0 where that could be heard
    float floor;               // of the linear mel
    float contrast_of_bands, contrast_of_frames, contrast_limit; // see correction_contrast.h
    struct correction_low low;
};

// Frames that are under way, of the whole spectrum or of the low end.
struct correction_frames {
    float *sums;    // what closed frames add to the open windows' samples, windows and all
    float *weights; // likewise, their windows' squares
    float *open;    // (n_open, width) what each open frame is now
};

struct correction_stream {
    float *audio, *logs, *targets;
    uint8_t *valid;
    struct correction_frames whole, low;
    float *low_raw; // (n_open, width) the raw audio under the low end's windows
};

// Where a stream works; some contracts have more bands than bins. Of the low end: each frame's estimate of the round
// before and the last round's spectra.
struct correction_room {
    float *estimate, *weights, *signal, *re, *im, *gains;
    float *bands, *below; // (M,) and (M + 1,), up to multiples of 16
    float *low_before, *low_missing, *low_inverse, *low_re, *low_im;
    struct fft_one_room fft;
};

GRU_INLINE int64_t correction_padded(int64_t n) {
    return (n + 15) / 16 * 16;
}

// A stretch of audio under the whole spectrum's window, to where it is transformed.
GRU_INLINE void correction_window(const struct correction_plan *plan, const struct correction_room *room,
                                  const float *audio) {
    const int64_t width = plan->mel.width;
    for (int64_t i = 0; i < width; i++)
        room->signal[i] = audio[i] * plan->mel.window[i];
    memset(room->signal + width, 0, (size_t)(plan->mel.fft.size - width) * sizeof(float));
}

static void correction_spectrum(const struct correction_plan *plan, const struct correction_room *room) {
    if (plan->fft.parts.size) {
        fft_one_of_real(&plan->fft, room->fft, room->signal, room->re, room->im);
        return;
    }
    for (int64_t i = 0; i < plan->mel.fft.size; i++)
        store_f32x8(room->fft.a + i * FRAME_LANES, all_f32x8(room->signal[i]));
    const float *spectrum = fft_of_real(&plan->mel.fft, room->fft.a, room->fft.b);
    for (int64_t k = 0; k < mel_n_bins(&plan->mel); k++) {
        room->re[k] = spectrum[k * FFT_STEP];
        room->im[k] = spectrum[k * FFT_STEP + FRAME_LANES];
    }
}

static void correction_signal(const struct correction_plan *plan, const struct correction_room *room) {
    if (plan->fft.parts.size) {
        fft_one_to_real(&plan->fft, room->fft, room->re, room->im, room->signal);
        return;
    }
    for (int64_t k = 0; k < mel_n_bins(&plan->mel); k++)
        fft_store(room->fft.a, k, (struct fft_number){all_f32x8(room->re[k]), all_f32x8(room->im[k])});
    const float *signal = fft_to_real(&plan->mel.fft, room->fft.a, room->fft.b);
    for (int64_t i = 0; i < plan->mel.fft.size; i++)
        room->signal[i] = signal[i * FRAME_LANES];
}

// The logarithms of the bands' gains, of the sizes of the bins in room->gains.
static void correction_band_gains(const struct correction_plan *plan, const struct correction_room *room,
                                  const float *restrict targets) {
    const int64_t n_mels = plan->mel.n_mels;
    const float *filter = plan->filters;
    for (int64_t m = 0; m < n_mels; m++) {
        f32x8 sum = {0};
        for (int64_t i = 0; i < plan->length[m]; i += 8)
            sum += load_f32x8(filter + i) * load_f32x8(room->gains + plan->mel.first_bin[m] + i);
        filter += plan->length[m];
        room->bands[m] = ((sum[0] + sum[4]) + (sum[1] + sum[5])) + ((sum[2] + sum[6]) + (sum[3] + sum[7]));
    }
    const f32x16 smallest = all_f32x16(1e-20f), limit = all_f32x16(plan->log_limit);
    for (int64_t m = 0; m < n_mels; m += 16) {
        f32x16 target = smallest;
        memcpy(&target, targets + m, (size_t)(n_mels - m < 16 ? n_mels - m : 16) * sizeof(float));
        const f32x16 found = max_f32x16(load_f32x16(room->bands + m), smallest);
        const f32x16 ratio = exact_log_f32x16(max_f32x16(target, smallest) / found);
        store_f32x16(room->bands + m, plan->exponent * min_f32x16(max_f32x16(ratio, -limit), limit));
    }
}

// The sizes of so many bins, rounded up to whole vectors.
GRU_INLINE void correction_sizes(const struct correction_plan *plan, const struct correction_room *room,
                                 int64_t n_bins) {
    for (int64_t k = 0; k < n_bins; k += 16) {
        const f32x16 re = load_f32x16(room->re + k), im = load_f32x16(room->im + k);
        const f32x16 power = re * re + im * im;
        store_f32x16(room->gains + k, plan->mel.is_power ? power : __builtin_elementwise_sqrt(power));
    }
}

// Scales 16 bins of a spectrum, from bin k on.
GRU_INLINE void correction_scale_bins(const struct correction_room *room, int64_t k, f32x16 gain) {
    store_f32x16(room->re + k, gain * load_f32x16(room->re + k));
    store_f32x16(room->im + k, gain * load_f32x16(room->im + k));
}

// Scales the bins of a spectrum so that its mel comes nearer to the targets (M,).
static void correction_scale(const struct correction_plan *plan, const struct correction_room *room,
                             const float *restrict targets) {
    const int64_t n_bins = mel_n_bins(&plan->mel);
    correction_sizes(plan, room, n_bins);
    memset(room->gains + n_bins, 0, 16 * sizeof(float));
    correction_band_gains(plan, room, targets);
    // A band ends where the next but one begins: even and odd ones are each written side by side, and nothing is read back.
    float *restrict of_even = room->gains, *restrict of_odd = room->signal;
    memset(of_even, 0, (size_t)n_bins * sizeof(float));
    memset(of_odd, 0, (size_t)n_bins * sizeof(float));
    const float *share = plan->shares;
    for (int64_t m = 0; m < plan->mel.n_mels; m++) {
        float *gain = (m % 2 ? of_odd : of_even) + plan->mel.first_bin[m];
        for (int64_t i = 0; i < plan->length[m]; i += 8)
            store_f32x8(gain + i, room->bands[m] * load_f32x8(share + i));
        share += plan->length[m];
    }
    const float scale = 2.0f / (float)plan->mel.fft.size; // of the way back
    for (int64_t k = 0; k < n_bins; k += 16)
        correction_scale_bins(room, k,
                              scale * exact_exp_f32x16(load_f32x16(of_even + k) + load_f32x16(of_odd + k)));
}

#endif
