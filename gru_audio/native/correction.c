// The spectral correction, see gru_audio/synthesis/correction.py: the audio of a stream is brought nearer to its
// mel, in rounds over the newest frames.
//
//     estimate = (sum over known frames of window * frame + share of the raw audio) / (sum of the windows' squares)
//     found    = mel bands of |FFT(window estimate)|
//     log gain of band m = exponent * clamp(log(target[m] / found[m]))
//     log gain of bin k  = sum_m  share[m][k] log gain of band m
//     frame    = window IFFT(gain FFT(window estimate))
//
// A band at the mel's floor may hold anything below it: nothing is taken to be there, and its target is 0.
//
// A frame is open from when its window is full until every window over its stretch is; in each step of a hop all
// open frames go through the rounds together, then the oldest is closed and its stretch comes out. With windows of
// four hops, three are open, n - 2 to n:
//
//     frames     .. n-3 |  n-2 |  n-1 |   n  |  n+1 |  n+2 |
//     windows             [ n-2: four hops   ]
//                                [ n-1              ]
//                                       [ n                ]      full once frame n + 2 has come
//     comes out         | n-2  |
//
//     audio    raw samples from the oldest open window's first to the end of the newest frame that came
//     sums     what closed frames add to the same samples, windows and all; weights, their windows' squares
//     frames   (n_open, width) what each open frame is now;  known (n_open,) 1 once it has been through a round
//     targets  (delay + 1, M) linear mels;  valid (delay + 1,) 0 before the stream's first frame and after its last
#include "fft_one.h"
#include "mel.h"

// What all streams of a contract share; nothing changes it.
struct correction_plan {
    struct mel_analysis mel;
    struct fft_one_plan fft;   // parts.size is 0 where it does not fit; then mel.fft serves, one lane of it
    const int64_t *first_bin;  // (M,)
    const int64_t *length;     // (M,) multiples of 8
    const float *filters;      // end to end, zeros after each filter's end
    const float *shares;       // likewise: each filter's share of all filters over the same bin
    int64_t n_open, reach;     // frames that are open; frames that a window reaches into after its own
    int64_t before, n_audio;   // samples from a window's first to its frame's; of `audio`
    float exponent, log_limit; // of a band's gain; of what is missing or too much in one round
    float full;                // of the windows' squares: what is missing to it, the raw audio stands for
    float silent;              // targets up to here are those of the floor; 0 where that could be heard
};

struct correction_stream {
    float *audio, *sums, *weights, *frames, *targets;
    uint8_t *known, *valid;
};

struct correction_room {
    float *estimate, *signal, *re, *im, *gains, *bands;
    struct fft_one_room fft;
};

static int64_t correction_n_samples(const struct correction_plan *plan) {
    return (plan->n_open - 1) * plan->mel.hop + plan->mel.width;
}
static int64_t correction_n_bins(const struct correction_plan *plan) {
    return mel_n_bins(&plan->mel) + 31; // and room for whole vectors
}

// How many floats a stream works in.
GRU_API int64_t gru_correction_scratch_size(const struct correction_plan *plan) {
    return correction_n_samples(plan) + plan->mel.fft.size + 3 * correction_n_bins(plan) + plan->mel.n_mels +
           16 + 2 * (mel_n_bins(&plan->mel) + 1) * FFT_STEP;
}

static struct correction_room correction_divide_scratch(const struct correction_plan *plan, float *scratch) {
    const int64_t n_bins = correction_n_bins(plan);
    struct correction_room room = {.fft.a = scratch};
    room.fft.b = room.fft.a + (mel_n_bins(&plan->mel) + 1) * FFT_STEP;
    room.signal = room.fft.b + (mel_n_bins(&plan->mel) + 1) * FFT_STEP;
    room.estimate = room.signal + plan->mel.fft.size;
    room.re = room.estimate + correction_n_samples(plan);
    room.im = room.re + n_bins;
    room.gains = room.im + n_bins;
    room.bands = room.gains + n_bins;
    return room;
}

// The best guess at the audio of all open windows: closed and open frames, and the raw audio where they are few.
static void correction_estimate(const struct correction_plan *plan, const struct correction_stream *stream,
                                float *restrict estimate, float *restrict weights) {
    const int64_t n_samples = correction_n_samples(plan), width = plan->mel.width;
    memcpy(estimate, stream->sums, (size_t)n_samples * sizeof(float));
    memcpy(weights, stream->weights, (size_t)n_samples * sizeof(float));
    for (int64_t g = 0; g < plan->n_open; g++) {
        const float *restrict frame = stream->frames + g * width, *restrict window = plan->mel.window;
        float *restrict sum = estimate + g * plan->mel.hop, *restrict weight = weights + g * plan->mel.hop;
        for (int64_t i = 0; i < width && stream->known[g]; i++) {
            sum[i] += frame[i];
            weight[i] += window[i] * window[i];
        }
    }
    for (int64_t i = 0; i < n_samples; i++) {
        const float missing = plan->full > weights[i] ? plan->full - weights[i] : 0.0f;
        estimate[i] = (estimate[i] + missing * stream->audio[i]) / (weights[i] + missing);
    }
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
            sum += load_f32x8(filter + i) * load_f32x8(room->gains + plan->first_bin[m] + i);
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

// Scales the bins of a spectrum so that its mel comes nearer to the targets (M,).
static void correction_scale(const struct correction_plan *plan, const struct correction_room *room,
                             const float *restrict targets) {
    const int64_t n_bins = mel_n_bins(&plan->mel);
    for (int64_t k = 0; k < n_bins; k += 16) {
        const f32x16 re = load_f32x16(room->re + k), im = load_f32x16(room->im + k),
                     power = re * re + im * im;
        store_f32x16(room->gains + k, plan->mel.is_power ? power : __builtin_elementwise_sqrt(power));
    }
    memset(room->gains + n_bins, 0, 16 * sizeof(float));
    correction_band_gains(plan, room, targets);
    memset(room->gains, 0, (size_t)n_bins * sizeof(float));
    const float *share = plan->shares;
    for (int64_t m = 0; m < plan->mel.n_mels; m++) {
        float *gain = room->gains + plan->first_bin[m];
        for (int64_t i = 0; i < plan->length[m]; i += 8)
            store_f32x8(gain + i, load_f32x8(gain + i) + room->bands[m] * load_f32x8(share + i));
        share += plan->length[m];
    }
    const float scale = 2.0f / (float)plan->mel.fft.size; // of the way back
    for (int64_t k = 0; k < n_bins; k += 16) {
        const f32x16 gain = scale * exact_exp_f32x16(load_f32x16(room->gains + k));
        store_f32x16(room->re + k, gain * load_f32x16(room->re + k));
        store_f32x16(room->im + k, gain * load_f32x16(room->im + k));
    }
}

// One round: every open frame anew from the same estimate.
static void correction_round(const struct correction_plan *plan, const struct correction_stream *stream,
                             const struct correction_room *room) {
    const int64_t width = plan->mel.width;
    correction_estimate(plan, stream, room->estimate, room->fft.a);
    for (int64_t g = 0; g < plan->n_open; g++) {
        if (!stream->valid[g])
            continue;
        const float *restrict audio = room->estimate + g * plan->mel.hop;
        for (int64_t i = 0; i < width; i++)
            room->signal[i] = audio[i] * plan->mel.window[i];
        memset(room->signal + width, 0, (size_t)(plan->mel.fft.size - width) * sizeof(float));
        correction_spectrum(plan, room);
        correction_scale(plan, room, stream->targets + g * plan->mel.n_mels);
        correction_signal(plan, room);
        float *restrict frame = stream->frames + g * width;
        for (int64_t i = 0; i < width; i++)
            frame[i] = room->signal[i] * plan->mel.window[i];
        stream->known[g] = 1;
    }
}

// Closes the oldest open frame, and moves everything on by a hop.
static void correction_move_on(const struct correction_plan *plan, const struct correction_stream *stream) {
    const int64_t hop = plan->mel.hop, width = plan->mel.width, n_mels = plan->mel.n_mels;
    const int64_t kept = correction_n_samples(plan) - hop, delay = plan->n_open - 1 + plan->reach;
    for (int64_t i = 0; i < width && stream->known[0]; i++) {
        stream->sums[i] += stream->frames[i];
        stream->weights[i] += plan->mel.window[i] * plan->mel.window[i];
    }
    memmove(stream->sums, stream->sums + hop, (size_t)kept * sizeof(float));
    memmove(stream->weights, stream->weights + hop, (size_t)kept * sizeof(float));
    memset(stream->sums + kept, 0, (size_t)hop * sizeof(float));
    memset(stream->weights + kept, 0, (size_t)hop * sizeof(float));
    memmove(stream->frames, stream->frames + width, (size_t)((plan->n_open - 1) * width) * sizeof(float));
    memmove(stream->known, stream->known + 1, (size_t)(plan->n_open - 1));
    stream->known[plan->n_open - 1] = 0;
    memmove(stream->targets, stream->targets + n_mels, (size_t)(delay * n_mels) * sizeof(float));
    memmove(stream->valid, stream->valid + 1, (size_t)delay);
}

// F frames of a stream: audio (F hop,) goes in and comes out `delay` = n_open - 1 + reach frames late, in place, and
// so do valid (F,); targets (F, M) are theirs.
GRU_API void gru_correct(const struct correction_plan *plan, const struct correction_stream *stream,
                         int64_t n_rounds, int64_t n_frames, float *restrict audio,
                         const float *restrict targets, uint8_t *restrict valid, float *restrict scratch) {
    const struct correction_room room = correction_divide_scratch(plan, scratch);
    const int64_t hop = plan->mel.hop, n_mels = plan->mel.n_mels, delay = plan->n_open - 1 + plan->reach;
    const int64_t n_audio = plan->n_audio, before = plan->before;
    for (int64_t f = 0; f < n_frames; f++) {
        memcpy(stream->audio + n_audio - hop, audio + f * hop, (size_t)hop * sizeof(float));
        for (int64_t m = 0; m < n_mels; m++) {
            const float target = targets[f * n_mels + m];
            stream->targets[delay * n_mels + m] = target > plan->silent ? target : 0.0f;
        }
        stream->valid[delay] = valid[f];
        for (int64_t n = 0; n < n_rounds; n++)
            correction_round(plan, stream, &room);
        correction_estimate(plan, stream, room.estimate, room.fft.a);
        memcpy(audio + f * hop, room.estimate + before, (size_t)hop * sizeof(float));
        valid[f] = stream->valid[0];
        correction_move_on(plan, stream);
        memmove(stream->audio, stream->audio + hop, (size_t)(n_audio - hop) * sizeof(float));
    }
}
