// The codec's loops over samples, see gru_audio/signal/codec.py.
//
//     prediction[t] = sum_k  a[f, k] rebuilt[t - 1 - k]              frame f = t / hop, k < P
//     target[t]     = code((signal[t] - prediction[t]) / scale[f])
//     rebuilt[t]    = prediction[t] + scale[f] expansion[target[t] + noise[t]]
//
//     coefficients  (F, P)   a[0,0] .. a[0,P-1] | a[1,0] ..        row f holds for samples f hop .. (f+1) hop - 1
//     codes         (4, T)   target .. | excitation .. | previous signal .. | prediction ..
#include "mulaw.h"
#include "../vectors.h"

struct gru_closed_loop {
    int64_t n_samples;             // T = F hop
    int64_t hop;                   // samples a frame
    int64_t order;                 // P
    int64_t n_classes;             // Q
    const float *signal;           // (T,) pre-emphasised
    const float *coefficients;     // (F, P)
    const float *excitation_scale; // (F,)
    const float *signal_scale;     // (F,)
    const int8_t *noise;           // (T,) steps by which a code is moved before it enters the history
    const float *edges;            // (Q - 1,)
    const float *expansion;        // (Q,)
    int16_t *codes;                // (4, T)
    float *rebuilt;                // (T,)
};

// One accumulator, oldest product last: the bits are those of the sum as it is written in the textbook.
static float predict(const float *restrict coefficients, const float *restrict rebuilt, int64_t t,
                     int64_t order) {
    float sum = 0.0f;
    for (int64_t k = 0; k < order && k < t; k++)
        sum += coefficients[k] * rebuilt[t - 1 - k];
    return sum;
}

static int32_t within(int32_t code, int32_t n_classes) {
    return code < 0 ? 0 : code < n_classes ? code : n_classes - 1;
}

// Codes a signal with no network, from a silent past.
GRU_API void gru_closed_loop(const struct gru_closed_loop *loop) {
    const int32_t n_classes = (int32_t)loop->n_classes;
    const int64_t n_samples = loop->n_samples;
    int16_t *target = loop->codes, *excitation = target + n_samples;
    int16_t *previous_signal = excitation + n_samples, *predicted = previous_signal + n_samples;
    float before = 0.0f;
    for (int64_t t = 0; t < n_samples; t++) {
        const int64_t f = t / loop->hop;
        const float scale = loop->excitation_scale[f], signal_scale = loop->signal_scale[f];
        const float prediction = predict(loop->coefficients + f * loop->order, loop->rebuilt, t, loop->order);
        const int32_t code = code_of((loop->signal[t] - prediction) / scale, loop->edges, n_classes);
        const int32_t noisy = within(code + loop->noise[t], n_classes);
        target[t] = (int16_t)code;
        excitation[t] = (int16_t)noisy;
        previous_signal[t] = (int16_t)code_of(before / signal_scale, loop->edges, n_classes);
        predicted[t] = (int16_t)code_of(prediction / signal_scale, loop->edges, n_classes);
        before = loop->rebuilt[t] = prediction + scale * loop->expansion[noisy];
    }
}

// audio[t] = signal[t] + coefficient audio[t - 1], of n samples; `previous` is the audio before the first.
GRU_API void gru_de_emphasis(const float *restrict signal, int64_t n_samples, float coefficient,
                             float previous, float *restrict audio) {
    for (int64_t t = 0; t < n_samples; t++)
        audio[t] = previous = signal[t] + coefficient * previous;
}
