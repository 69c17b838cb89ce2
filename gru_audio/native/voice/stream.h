// One stream's way from mel frames to audio.
//
//     mel frames -> frames.c, two frames late -> int8_loop.c -> correction.c, some frames later -> audio
//
// It goes FRAMES_AT_ONCE at a time through arrays that lie behind one another in the stream's memory:
//
//     | struct | what is saved | what is worked in |
#ifndef GRU_STREAM_H
#define GRU_STREAM_H

#include "../memory.h"
#include "random.h"
#include "voice_open.h"

enum { REMEMBERED_FRAMES = 2 * CONTEXT_FRAMES }; // on which the front end's next one depends

// What a saved stream holds besides arrays.
struct stream_numbers {
    struct gru_audio_settings settings;
    struct random random;
    int64_t n_frames; // pushed so far
    float last_audio, noise[NOISE_TAPS];
};

struct gru_audio_stream {
    const struct gru_audio_voice *voice;
    int64_t n_without_context; // of the next frames
    bool has_ended;
    struct stream_numbers *numbers; // begin what is saved, n_saved bytes
    int64_t n_saved;
    float *recent;       // (REMEMBERED_FRAMES, M) the last mel frames pushed, newest last
    float *hidden;       // (H,)
    float *past_rebuilt; // (P,) pre-emphasised samples, newest last
    int64_t *past_codes; // (L,) likewise, excitation codes
    struct correction_stream correction;
    struct gru_int8_room room; // begins what is worked in
    int64_t n_room_bytes;
    struct gru_frames frames;
    float *frame_room, *linear; // linear (CONTEXT_FRAMES + FRAMES_AT_ONCE, M)
    double *prediction_room;
    float *silence;          // (CONTEXT_FRAMES, M) mel frames
    float *rebuilt;          // (P + T,), T samples of FRAMES_AT_ONCE frames
    int64_t *codes;          // (L + T,)
    float *uniforms, *audio; // (T,)
    float *correction_room;  //
    uint8_t *valid;          // (FRAMES_AT_ONCE,)
};

static void stream_take_room(const struct voice_numbers *n, struct memory *memory,
                             struct gru_int8_room *room) {
    const int64_t units = voice_padded(n->gru_size, QUAD_UNITS),
                  rows = voice_padded(n->readout_size, QUAD_UNITS);
    const int64_t all_rows = n->samples_per_step * rows;
    room->hidden = memory_take(memory, units, sizeof(int16_t));
    room->activations = memory_take(memory, units, 1);
    room->sums = memory_take(memory, 3 * units, sizeof(int32_t));
    room->starts = memory_take(memory, INT8_STARTS * units, sizeof(int32_t));
    room->next_starts = memory_take(memory, INT8_STARTS * units, sizeof(int32_t));
    room->readout_starts = memory_take(memory, all_rows, sizeof(int32_t));
    room->next_readout_starts = memory_take(memory, all_rows, sizeof(int32_t));
    room->readout_sums = memory_take(memory, all_rows, sizeof(int32_t));
    room->row = memory_take(memory, 2 * rows, 1);
}

static void stream_take_frames(const struct correction_plan *plan, const struct correction_windows *windows,
                               struct memory *memory, struct correction_frames *frames) {
    frames->sums = memory_floats(memory, correction_n_samples(plan, windows));
    frames->weights = memory_floats(memory, correction_n_samples(plan, windows));
    frames->open = memory_floats(memory, plan->n_open * windows->width);
}

static void stream_take_correction(const struct correction_plan *plan, struct memory *memory,
                                   struct correction_stream *stream) {
    const struct correction_windows whole = correction_whole(plan);
    const int64_t delay = plan->n_open - 1 + plan->reach;
    stream->audio = memory_floats(memory, plan->n_audio);
    stream->logs = memory_floats(memory, (delay + 1) * correction_padded(plan->mel.n_mels));
    stream->targets = memory_floats(memory, plan->n_open * plan->mel.n_mels);
    stream->valid = memory_take(memory, delay + 1, 1);
    stream_take_frames(plan, &whole, memory, &stream->whole);
    stream_take_frames(plan, &plan->low.windows, memory, &stream->low);
    stream->low_raw = memory_floats(memory, plan->n_open * plan->low.windows.width);
}

// A stream's places in its memory; without memory its size alone.
static int64_t stream_divide(const struct gru_audio_voice *voice, uint8_t *first,
                             struct gru_audio_stream *stream) {
    const struct voice_numbers *n = voice->numbers;
    const int64_t F = FRAMES_AT_ONCE, T = F * n->hop_samples, M = n->n_mels;
    const bool corrects = voice->facts.correction_frames > 0;
    struct memory memory = {first, 0};
    memory_take(&memory, 1, sizeof *stream);
    const int64_t before_saved = memory.size;
    stream->numbers = memory_take(&memory, 1, sizeof *stream->numbers);
    stream->recent = memory_floats(&memory, REMEMBERED_FRAMES * M);
    stream->hidden = memory_floats(&memory, n->gru_size);
    stream->past_rebuilt = memory_floats(&memory, n->order);
    stream->past_codes = memory_take(&memory, n->longest_lag, sizeof(int64_t));
    if (corrects)
        stream_take_correction(&voice->correction, &memory, &stream->correction);
    stream->n_saved = memory.size - before_saved;
    const int64_t before_room = memory.size;
    stream_take_room(n, &memory, &stream->room);
    stream->n_room_bytes = memory.size - before_room;
    stream->frames = (struct gru_frames){
        .gate_inputs = memory_floats(&memory, F * voice->conditioner.n_gates),
        .readout_inputs = memory_floats(&memory, F * n->readout_size),
        .coefficients = memory_floats(&memory, F * n->order),
        .excitation_scale = memory_floats(&memory, F),
        .signal_scale = memory_floats(&memory, F),
        .lags = memory_take(&memory, F, sizeof(int64_t)),
    };
    stream->frame_room = memory_floats(&memory, gru_frame_room_size(&voice->conditioner));
    stream->linear = memory_floats(&memory, (CONTEXT_FRAMES + F) * M);
    stream->prediction_room = memory_take(&memory, gru_lpc_scratch_size(&voice->prediction), sizeof(double));
    stream->silence = memory_floats(&memory, CONTEXT_FRAMES * M);
    stream->rebuilt = memory_floats(&memory, n->order + T);
    stream->codes = memory_take(&memory, n->longest_lag + T, sizeof(int64_t));
    stream->uniforms = memory_floats(&memory, T);
    stream->audio = memory_floats(&memory, T);
    stream->correction_room =
        memory_floats(&memory, corrects ? gru_correction_scratch_size(&voice->correction) : 0);
    stream->valid = memory_take(&memory, F, 1);
    return memory.size;
}

static void *aligned_in(void *memory) {
    const uintptr_t address = (uintptr_t)memory;
    return (uint8_t *)memory + (-address & (VOICE_ALIGNMENT - 1));
}
static bool is_aligned(const void *address) {
    return (uintptr_t)address % sizeof(int64_t) == 0;
}

// Frames in, as far as the front end takes them. Gives how many of them have no context yet: what those became means
// nothing. Of the others, row f of stream->linear is the mel of what row f of stream->frames became.
static int64_t stream_condition(struct gru_audio_stream *stream, const float *mel, int64_t n_frames) {
    const struct gru_audio_voice *voice = stream->voice;
    const struct gru_frames *out = &stream->frames;
    const int64_t M = voice->numbers->n_mels, least = voice->numbers->shortest_lag,
                  most = voice->numbers->longest_lag;
    float *linear = stream->linear + CONTEXT_FRAMES * M;
    gru_mel_rescale(&voice->scale, mel, n_frames * M, true, linear);
    gru_fill_frames(&voice->conditioner, &voice->prediction, mel, linear, n_frames, stream->frame_room,
                    stream->prediction_room, out);
    for (int64_t f = 0; f < n_frames; f++)
        if (out->lags[f])
            out->lags[f] = out->lags[f] < least ? least : out->lags[f] > most ? most : out->lags[f];
    const int64_t skipped = n_frames < stream->n_without_context ? n_frames : stream->n_without_context;
    stream->n_without_context -= skipped;
    return skipped;
}

// The samples of the frames from `first` on, into stream->audio.
static void stream_generate(struct gru_audio_stream *stream, int64_t first, int64_t n_frames) {
    const struct gru_audio_voice *voice = stream->voice;
    const struct voice_numbers *n = voice->numbers;
    const struct gru_frames *in = &stream->frames;
    struct stream_numbers *kept = stream->numbers;
    const int64_t n_samples = n_frames * n->hop_samples, L = n->longest_lag, P = n->order;
    random_fill(&kept->random, n_samples, stream->uniforms);
    memcpy(stream->codes, stream->past_codes, (size_t)L * sizeof *stream->codes);
    memcpy(stream->rebuilt, stream->past_rebuilt, (size_t)P * sizeof *stream->rebuilt);
    memset(stream->room.hidden, 0, (size_t)stream->n_room_bytes);
    const struct gru_block block = {
        .n_frames = n_frames,
        .hop = n->hop_samples,
        .n_past = L,
        .gate_inputs = in->gate_inputs + first * voice->conditioner.n_gates,
        .readout_inputs = in->readout_inputs + first * n->readout_size,
        .coefficients = in->coefficients + first * P,
        .excitation_scale = in->excitation_scale + first,
        .signal_scale = in->signal_scale + first,
        .lags = in->lags + first,
        .uniforms = stream->uniforms,
        .temperature = (float)kept->settings.temperature,
        .tail_cut = (float)kept->settings.tail_cut,
        .shaping = {.is_on = n->is_shaped,
                    .taps = {(float)n->noise_taps[0], (float)n->noise_taps[1], (float)n->noise_taps[2]},
                    .voiced_temperature = (float)(kept->settings.temperature * n->voiced_temperature),
                    .noise = kept->noise,
                    .group_means = voice->group_means},
        .hidden = stream->hidden,
        .codes = stream->codes,
        .rebuilt = stream->rebuilt,
        .last_audio = &kept->last_audio,
        .audio = stream->audio,
    };
    gru_int8_generate(&voice->network, &block, &stream->room);
    memcpy(stream->past_codes, stream->codes + n_samples, (size_t)L * sizeof *stream->codes);
    memcpy(stream->past_rebuilt, stream->rebuilt + n_samples, (size_t)P * sizeof *stream->rebuilt);
}

// Takes stream->audio with its linear mel through the correction; gives how many samples come out.
static int64_t stream_correct(struct gru_audio_stream *stream, const float *linear, int64_t n_frames,
                              bool are_valid, float *out) {
    const int64_t hop = stream->voice->numbers->hop_samples, n_rounds = stream->numbers->settings.corrections;
    int64_t n_out = 0;
    memset(stream->valid, are_valid, (size_t)n_frames);
    if (n_rounds)
        gru_correct(&stream->voice->correction, &stream->correction, n_rounds, n_frames, stream->audio,
                    linear, stream->valid, stream->correction_room);
    for (int64_t f = 0; f < n_frames; f++)
        if (stream->valid[f]) {
            memcpy(out + n_out, stream->audio + f * hop, (size_t)hop * sizeof *out);
            n_out += hop;
        }
    return n_out;
}

// At most FRAMES_AT_ONCE frames in; gives how many samples come out.
static int64_t stream_advance(struct gru_audio_stream *stream, const float *mel, int64_t n_frames,
                              float *out) {
    const int64_t M = stream->voice->numbers->n_mels, skipped = stream_condition(stream, mel, n_frames);
    int64_t n_out = 0;
    if (n_frames > skipped) {
        stream_generate(stream, skipped, n_frames - skipped);
        n_out = stream_correct(stream, stream->linear + skipped * M, n_frames - skipped, true, out);
    }
    memmove(stream->linear, stream->linear + n_frames * M,
            (size_t)(CONTEXT_FRAMES * M) * sizeof *stream->linear);
    return n_out;
}

static void stream_remember(struct gru_audio_stream *stream, const float *mel, int64_t n_frames) {
    const int64_t M = stream->voice->numbers->n_mels, kept = REMEMBERED_FRAMES - n_frames;
    if (kept > 0)
        memmove(stream->recent, stream->recent + n_frames * M, (size_t)(kept * M) * sizeof *mel);
    const int64_t first = kept > 0 ? 0 : -kept;
    memcpy(stream->recent + (kept > 0 ? kept : 0) * M, mel + first * M,
           (size_t)((n_frames - first) * M) * sizeof *mel);
    stream->numbers->n_frames += n_frames;
}

#endif
