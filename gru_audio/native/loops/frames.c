// From mel frames to what the sample loop needs of each, see gru_audio/synthesis/frontend.py.
//
//     x = (mel - mean) / deviation                                 within +-MOST_DEVIATIONS, so that sums stay finite
//     pitch head:     scores = output tanh(second tanh(first x))         of L lags and of voicing
//     conditioner:    c = tanh(fourth tanh(third [tanh(second tanh(first x)), voiced, lag]))
//     sample loop:    gate_inputs = gates c, readout_inputs = readout c; predictors and scales: see lpc.c
//
// `first` and `second` are convolutions over three frames. Each looks one frame ahead, so that what comes out
// of both as frame f goes in belongs to frame f - 2. A layer's results are rows, a row a frame, and before
// them lie the rows of the two frames before, so that a convolution reads three rows end to end:
//
//     | -2 | -1 | 0 | 1 | ... | 15 |         frame 0 reads rows -2 .. 0, frame 1 rows -1 .. 1
//
// No sum depends on how many frames come at once, and what is fused is exact; see dense.h: a frame's bits are the same
// in chunks of any size and on every processor. Shapes: see model.py; M bands; sizes with a dash, as C', are rounded up
// to whole tiles of dense.h.
#include "dense.h"
#include "../vectors.h"

// FRAMES_AT_ONCE go through a layer together, so that its weights are fetched once for all of them.
enum { FRAMES_AT_ONCE = 16, CONTEXT_FRAMES = 2 };
static const float MOST_DEVIATIONS = 1e4f;
enum { REFINED_BINS = 2 }; // on each side of the likeliest lag

enum frame_layer {
    LAYER_PITCH_FIRST,  // (K', 3 M), where K is the pitch head's size
    LAYER_PITCH_SECOND, // (K', 3 K')
    LAYER_PITCH_OUTPUT, // (L + 1, K'), voicing last
    LAYER_FIRST,        // (C', 3 M)
    LAYER_SECOND,       // (C', 3 C')
    LAYER_THIRD,        // (C', C' + 2)
    LAYER_FOURTH,       // (C', C')
    LAYER_GATES,        // (G H, C')
    LAYER_READOUT,      // (R, C')
    N_LAYERS
};

struct gru_conditioner {
    int64_t n_mels;          // M
    int64_t n_lag_bins;      // L; 0 without a pitch head, whose layers have no outputs then
    int64_t n_gates;         // G H
    int64_t readout_size;    // R
    double excitation_range; // full scale of the excitation, in RMS of the prediction error
    double signal_range;     // full scale of the signal's codes, in RMS of the signal
    float first_lag;         // of the first bin, in samples
    float log_lag_range;     // the logarithm of the last bin's lag over the first's
    const float *mean;       // (M,) of the mel
    const float *deviation;  // (M,)
    struct dense_layer layers[N_LAYERS];
};

// What the sample loop needs of F frames.
struct gru_frames {
    float *gate_inputs;      // (F, G H)
    float *readout_inputs;   // (F, R)
    float *coefficients;     // (F, P)
    float *excitation_scale; // (F,)
    float *signal_scale;     // (F,)
    int64_t *lags;           // (F,) in whole samples, 0 where unvoiced
};

// Rows of numbers, a row a frame, those of the frames before first.
struct frame_rows {
    float *first;
    int64_t width;
};

// What a stream keeps between calls and works in, all of it in one array.
struct frame_room {
    struct frame_rows linear, mel, of[N_LAYERS];
    int64_t size;
};

static struct frame_rows frame_take_rows(float *array, int64_t width, int64_t *size) {
    const struct frame_rows rows = {array ? array + *size : NULL, width};
    *size += (CONTEXT_FRAMES + FRAMES_AT_ONCE) * width;
    return rows;
}

static struct frame_room frame_divide_room(const struct gru_conditioner *c, float *array) {
    struct frame_room room = {.size = 0};
    room.linear = frame_take_rows(array, c->n_mels, &room.size);
    room.mel = frame_take_rows(array, c->n_mels, &room.size);
    for (int layer = 0; layer < N_LAYERS; layer++) {
        const int64_t n_tiles = c->layers[layer].n_tiles + (layer == LAYER_SECOND); // with the features
        room.of[layer] = frame_take_rows(array, DENSE_WIDTH * n_tiles, &room.size);
    }
    return room;
}

// Row f; those before the first are at -2 and -1.
static float *frame_row(struct frame_rows rows, int64_t f) {
    return rows.first + (CONTEXT_FRAMES + f) * rows.width;
}

static void frame_take_mel(const struct gru_conditioner *c, const float *mel, const float *linear,
                           int64_t n_frames, const struct frame_room *room) {
    memcpy(frame_row(room->linear, 0), linear, (size_t)(n_frames * c->n_mels) * sizeof *linear);
    for (int64_t f = 0; f < n_frames; f++)
        for (int64_t m = 0; m < c->n_mels; m++) {
            const float x = (mel[f * c->n_mels + m] - c->mean[m]) / c->deviation[m];
            frame_row(room->mel, f)[m] = dense_rounded(x < -MOST_DEVIATIONS  ? -MOST_DEVIATIONS
                                                       : x > MOST_DEVIATIONS ? MOST_DEVIATIONS
                                                                             : x);
        }
}

// One layer over some frames, from rows `look_back` before each on.
static void frame_run_layer(const struct gru_conditioner *c, enum frame_layer layer, struct frame_rows inputs,
                            int64_t look_back, int64_t n_frames, const struct frame_room *room) {
    const struct frame_rows outputs = room->of[layer];
    dense(&c->layers[layer], frame_row(inputs, -look_back), inputs.width, n_frames, frame_row(outputs, 0),
          outputs.width);
}

// The same, and the hyperbolic tangent of what comes out.
static void frame_run_tanh(const struct gru_conditioner *c, enum frame_layer layer, struct frame_rows inputs,
                           int64_t look_back, int64_t n_frames, const struct frame_room *room) {
    frame_run_layer(c, layer, inputs, look_back, n_frames, room);
    for (int64_t f = 0; f < n_frames; f++)
        for (int64_t j = 0; j < DENSE_WIDTH * c->layers[layer].n_tiles; j += DENSE_WIDTH) {
            float *place = frame_row(room->of[layer], f) + j;
            store_f32x16(place, dense_rounded_f32x16(exact_tanh_f32x16(load_f32x16(place))));
        }
}

// The likeliest lag by the scores of the bins, the mean of those around the highest by their shares: from 0
// at the first bin to 1 at the last.
static float frame_lag_position(const float *scores, int64_t n_bins) {
    int64_t best = 0;
    for (int64_t i = 1; i < n_bins; i++)
        best = scores[i] > scores[best] ? i : best;
    const int64_t from = best > REFINED_BINS ? best - REFINED_BINS : 0;
    const int64_t to = best + REFINED_BINS < n_bins ? best + REFINED_BINS + 1 : n_bins;
    float shares[DENSE_WIDTH] = {0}, total = 0.0f, moment = 0.0f;
    for (int64_t i = from; i < to; i++)
        shares[i - from] = scores[i] - scores[best];
    store_f32x16(shares, exact_exp_f32x16(load_f32x16(shares)));
    for (int64_t i = from; i < to; i++) {
        total += shares[i - from];
        moment += shares[i - from] * (float)i;
    }
    const float position = moment / total / (float)(n_bins - 1);
    return position > 0.0f ? position : 0.0f; // a mel beyond all measure makes it NaN
}

// The lags that the pitch head's scores stand for, and the features beside the second layer's results; see
// model.PitchHead.estimate.
static void frame_decode_pitch(const struct gru_conditioner *c, int64_t n_frames,
                               const struct frame_room *room, int64_t *lags) {
    for (int64_t f = 0; f < n_frames; f++) {
        const float *scores = frame_row(room->of[LAYER_PITCH_OUTPUT], f);
        float *features =
            frame_row(room->of[LAYER_SECOND], f) + DENSE_WIDTH * c->layers[LAYER_SECOND].n_tiles;
        features[0] = features[1] = 0.0f;
        lags[f] = 0;
        if (c->n_lag_bins && scores[c->n_lag_bins] >= 0.0f) {
            const float position = frame_lag_position(scores, c->n_lag_bins);
            features[0] = 1.0f;
            features[1] = dense_rounded(2.0f * position - 1.0f);
            const f32x16 ratio = exact_exp_f32x16(all_f32x16(c->log_lag_range * position));
            lags[f] = (int64_t)(c->first_lag * ratio[0] + 0.5f);
        }
    }
}

// Predictors and scales of frames first .. first + n_frames - 1, from the linear mel of two frames before each.
static void frame_predict(const struct gru_conditioner *c, const struct lpc_tables *tables, int64_t first,
                          int64_t n_frames, const struct frame_room *room, double *scratch,
                          const struct gru_frames *out) {
    const int64_t order = tables->order;
    for (int64_t lane = 0; lane < n_frames; lane += LPC_LANES) {
        const int64_t n_lanes = n_frames - lane < LPC_LANES ? n_frames - lane : LPC_LANES;
        if (order)
            lpc_predict(tables, frame_row(room->linear, lane - CONTEXT_FRAMES), n_lanes, scratch);
        for (int64_t i = 0; i < n_lanes; i++) {
            const int64_t f = first + lane + i;
            for (int64_t k = 0; k < order; k++)
                out->coefficients[f * order + k] = (float)scratch[k * LPC_LANES + i];
            const double *rms = scratch + order * LPC_LANES + i; // of the error, and of the signal
            out->excitation_scale[f] = order ? (float)(c->excitation_range * rms[0]) : 1.0f;
            out->signal_scale[f] = order ? (float)(c->signal_range * rms[LPC_LANES]) : 1.0f;
        }
    }
}

static void frame_copy_rows(struct frame_rows rows, int64_t n_frames, int64_t size, float *out) {
    for (int64_t f = 0; f < n_frames; f++)
        memcpy(out + f * size, frame_row(rows, f), (size_t)size * sizeof *out);
}

// Moves the last frames' rows to where the next call looks for the frames before.
static void frame_keep_context(struct frame_rows rows, int64_t n_frames) {
    memmove(rows.first, rows.first + n_frames * rows.width,
            (size_t)(CONTEXT_FRAMES * rows.width) * sizeof *rows.first);
}

// How many numbers a stream's room has; it begins as zeros.
GRU_API int64_t gru_frame_room_size(const struct gru_conditioner *c) {
    return frame_divide_room(c, NULL).size;
}

// Takes F frames, the mel (F, M) and the filterbank's output that it stands for, and computes the frames two
// before each, what the sample loop needs of them: see gru_frames. A stream's first 4 frames mean nothing.
// `array` is the stream's room, `scratch` that of lpc_predict.
GRU_API void gru_fill_frames(const struct gru_conditioner *c, const struct lpc_tables *tables,
                             const float *restrict mel, const float *restrict linear, int64_t n_all,
                             float *restrict array, double *restrict scratch, const struct gru_frames *out) {
    const struct frame_room room = frame_divide_room(c, array);
    for (int64_t first = 0; first < n_all; first += FRAMES_AT_ONCE) {
        const int64_t n = n_all - first < FRAMES_AT_ONCE ? n_all - first : FRAMES_AT_ONCE;
        frame_take_mel(c, mel + first * c->n_mels, linear + first * c->n_mels, n, &room);
        frame_run_tanh(c, LAYER_PITCH_FIRST, room.mel, CONTEXT_FRAMES, n, &room);
        frame_run_tanh(c, LAYER_PITCH_SECOND, room.of[LAYER_PITCH_FIRST], CONTEXT_FRAMES, n, &room);
        frame_run_layer(c, LAYER_PITCH_OUTPUT, room.of[LAYER_PITCH_SECOND], 0, n, &room);
        frame_run_tanh(c, LAYER_FIRST, room.mel, CONTEXT_FRAMES, n, &room);
        frame_run_tanh(c, LAYER_SECOND, room.of[LAYER_FIRST], CONTEXT_FRAMES, n, &room);
        frame_decode_pitch(c, n, &room, out->lags + first);
        frame_run_tanh(c, LAYER_THIRD, room.of[LAYER_SECOND], 0, n, &room);
        frame_run_tanh(c, LAYER_FOURTH, room.of[LAYER_THIRD], 0, n, &room);
        frame_run_layer(c, LAYER_GATES, room.of[LAYER_FOURTH], 0, n, &room);
        frame_run_layer(c, LAYER_READOUT, room.of[LAYER_FOURTH], 0, n, &room);
        frame_copy_rows(room.of[LAYER_GATES], n, c->n_gates, out->gate_inputs + first * c->n_gates);
        frame_copy_rows(room.of[LAYER_READOUT], n, c->readout_size,
                        out->readout_inputs + first * c->readout_size);
        frame_predict(c, tables, first, n, &room, scratch, out);
        frame_keep_context(room.linear, n);
        frame_keep_context(room.mel, n);
        frame_keep_context(room.of[LAYER_PITCH_FIRST], n);
        frame_keep_context(room.of[LAYER_FIRST], n);
    }
}
