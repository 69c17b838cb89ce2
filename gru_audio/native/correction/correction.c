// The spectral correction, see gru_audio/synthesis/correction.py: the audio of a stream is brought nearer to its
// mel, in rounds over the newest frames.
//
//     estimate = (sum over known frames of window * frame + share of the raw audio) / (sum of the windows' squares)
//     frame    = window IFFT(gain FFT(window estimate)), see correction_frame.h
//
// A band at the mel's floor may hold anything below it: nothing is taken to be there, and its target is 0.
//
// A frame is open from when its window is full until every window over its stretch is. In each step of a hop the one
// that has just come is first made alone, then all open frames go through the rounds together, and the oldest is closed
// and its stretch comes out. With windows of four hops, three are open, n - 2 to n:
//
//     frames     .. n-3 |  n-2 |  n-1 |   n  |  n+1 |  n+2 |
//     windows             [ n-2: four hops   ]
//                                [ n-1              ]
//                                       [ n                ]      full once frame n + 2 has come
//     comes out         | n-2  |
//
// The low end goes first, in rounds of its own; see correction_low.h.
//
//     audio    raw samples from the oldest open window's first to the end of the newest frame that came
//     logs     (delay + 1, M') ln of the mels;  valid (delay + 1,) 0 before the stream's first frame and after its last
//     targets  (n_open, M) linear mels that the open frames are brought to; see correction_contrast.h
#include "correction_contrast.h"
#include "correction_low.h"
#include "../memory.h"

static struct correction_windows correction_whole(const struct correction_plan *plan) {
    return (struct correction_windows){plan->mel.window, plan->mel.hop, plan->mel.width};
}

// Divides the room of a stream.
static struct correction_room correction_divide(const struct correction_plan *plan, struct memory *memory) {
    const struct correction_windows whole = correction_whole(plan), *low = &plan->low.windows;
    const int64_t n_samples = correction_n_samples(plan, &whole);
    const int64_t n_bins = mel_n_bins(&plan->mel) + 31; // and room for whole vectors
    const int64_t in_lanes = (mel_n_bins(&plan->mel) + 1) * FFT_STEP, n_low = plan->low.n_fft / 2 + 1;
    const int64_t n_low_samples = correction_n_samples(plan, low);
    return (struct correction_room){.fft = {memory_floats(memory, in_lanes), memory_floats(memory, in_lanes)},
                                    .signal = memory_floats(memory, plan->mel.fft.size),
                                    .estimate = memory_floats(memory, n_samples),
                                    .weights = memory_floats(memory, n_samples),
                                    .re = memory_floats(memory, n_bins),
                                    .im = memory_floats(memory, n_bins),
                                    .gains = memory_floats(memory, n_bins),
                                    .bands = memory_floats(memory, plan->mel.n_mels + 16),
                                    .below = memory_floats(memory, plan->mel.n_mels + 1),
                                    .low_before = memory_floats(memory, plan->n_open * low->width),
                                    .low_missing = memory_floats(memory, n_low_samples),
                                    .low_inverse = memory_floats(memory, n_low_samples),
                                    .low_re = memory_floats(memory, plan->n_open * n_low),
                                    .low_im = memory_floats(memory, plan->n_open * n_low)};
}

// How many floats a stream works in.
GRU_API int64_t gru_correction_scratch_size(const struct correction_plan *plan) {
    struct memory memory = {NULL, 0};
    correction_divide(plan, &memory);
    return memory.size / (int64_t)sizeof(float);
}

// The best guess at the audio of all open windows: closed and open frames, and the raw audio where they are few.
static void correction_estimate(const struct correction_plan *plan, const struct correction_stream *stream,
                                const struct correction_room *room, int64_t n_known) {
    const struct correction_windows whole = correction_whole(plan);
    float *restrict estimate = room->estimate, *restrict weights = room->weights;
    correction_sum(plan, &whole, &stream->whole, stream->valid, n_known, estimate);
    correction_weigh(plan, &whole, &stream->whole, stream->valid, n_known, weights);
    for (int64_t i = 0; i < correction_n_samples(plan, &whole); i++) {
        const float missing = plan->full > weights[i] ? plan->full - weights[i] : 0.0f;
        estimate[i] = (estimate[i] + missing * stream->audio[i]) / (weights[i] + missing);
    }
}

// One round: every open frame anew from the same estimate; or the newest alone, from what the others know of it.
static void correction_round(const struct correction_plan *plan, const struct correction_stream *stream,
                             const struct correction_room *room, bool is_newest_alone) {
    const struct mel_analysis *mel = &plan->mel;
    const int64_t newest = plan->n_open - 1;
    correction_estimate(plan, stream, room, is_newest_alone ? newest : plan->n_open);
    for (int64_t g = is_newest_alone ? newest : 0; g < plan->n_open; g++) {
        if (!stream->valid[g])
            continue;
        correction_window(plan, room, room->estimate + g * mel->hop);
        correction_spectrum(plan, room);
        correction_scale(plan, room, stream->targets + g * mel->n_mels);
        if (plan->low.n_rounds)
            correction_put_low(plan, room, g);
        correction_signal(plan, room);
        float *frame = stream->whole.open + g * mel->width;
        for (int64_t i = 0; i < mel->width; i++)
            frame[i] = room->signal[i] * mel->window[i];
    }
}

// Closes the oldest open frame, and moves everything on by a hop.
static void correction_move_on(const struct correction_plan *plan, const struct correction_stream *stream) {
    const struct correction_windows whole = correction_whole(plan), *low = &plan->low.windows;
    const int64_t n_mels = plan->mel.n_mels, row = correction_padded(n_mels),
                  delay = plan->n_open - 1 + plan->reach;
    correction_close(plan, &whole, &stream->whole, stream->valid[0]);
    if (plan->low.n_rounds) {
        correction_close(plan, low, &stream->low, stream->valid[0]);
        memmove(stream->low_raw, stream->low_raw + low->width,
                (size_t)((plan->n_open - 1) * low->width) * sizeof(float));
    }
    memmove(stream->targets, stream->targets + n_mels, (size_t)((plan->n_open - 1) * n_mels) * sizeof(float));
    memmove(stream->logs, stream->logs + row, (size_t)(delay * row) * sizeof(float));
    memmove(stream->valid, stream->valid + 1, (size_t)delay);
    memmove(stream->audio, stream->audio + plan->mel.hop,
            (size_t)(plan->n_audio - plan->mel.hop) * sizeof(float));
}

// F frames of a stream: audio (F hop,) goes in and comes out `delay` = n_open - 1 + reach frames late, in place, and
// so do valid (F,); linear mels (F, M) are theirs.
GRU_API void gru_correct(const struct correction_plan *plan, const struct correction_stream *stream,
                         int64_t n_rounds, int64_t n_frames, float *restrict audio,
                         const float *restrict mels, uint8_t *restrict valid, float *restrict scratch) {
    struct memory memory = {(uint8_t *)scratch, 0};
    const struct correction_room room = correction_divide(plan, &memory);
    const int64_t hop = plan->mel.hop, n_mels = plan->mel.n_mels, delay = plan->n_open - 1 + plan->reach;
    for (int64_t f = 0; f < n_frames; f++) {
        memcpy(stream->audio + plan->n_audio - hop, audio + f * hop, (size_t)hop * sizeof(float));
        contrast_take(plan, stream, mels + f * n_mels);
        stream->valid[delay] = valid[f];
        if (stream->valid[plan->n_open - 1]) {
            contrast_set_targets(plan, stream, &room);
            if (plan->low.n_rounds)
                correction_take_low(plan, stream, &room);
        }
        for (int64_t n = 0; n < plan->low.n_rounds; n++)
            correction_low_round(plan, stream, &room, n);
        for (int64_t n = 0; n <= n_rounds; n++)
            correction_round(plan, stream, &room, n == 0);
        correction_estimate(plan, stream, &room, plan->n_open);
        memcpy(audio + f * hop, room.estimate + plan->before, (size_t)hop * sizeof(float));
        valid[f] = stream->valid[0];
        correction_move_on(plan, stream);
    }
}
