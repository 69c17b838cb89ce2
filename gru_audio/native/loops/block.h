// What the sample loops are given: some frames of one stream.
// F frames, T = F hop samples, L past codes, P the order of prediction, H and R sizes; S samples a step.
//
// What a stream goes on with lies before what it adds: `codes` begins with the L last codes, `rebuilt` with the P last
// samples.
//
//     codes      | e[-L] ... e[-1] | e[0] ... e[T-1] |
//     rebuilt    | s[-P] ... s[-1] | s[0] ... s[T-1] |
#ifndef GRU_BLOCK_H
#define GRU_BLOCK_H

#include "shaping.h"

struct gru_block {
    int64_t n_frames;              // F
    int64_t hop;                   // a multiple of S
    int64_t n_past;                // L
    const float *gate_inputs;      // (F, 3H)
    const float *readout_inputs;   // (F, R)
    const float *coefficients;     // (F, P)
    const float *excitation_scale; // (F,)
    const float *signal_scale;     // (F,)
    const int64_t *lags;           // (F,) at most L; 0 where unvoiced
    const float *uniforms;         // (T,) in [0, 1)
    const int64_t *forced;         // (n_forced,) codes in place of what would be drawn
    int64_t n_forced;              // T or 0
    float temperature;             // divides the logits
    float tail_cut;                // branches less likely are never taken
    struct gru_shaping shaping;    // of voiced frames
    float *hidden;                 // (H,) in place
    int64_t *codes;                // (L + T,)
    float *rebuilt;                // (P + T,)
    float *last_audio;             // (1,) the sample before, in place
    float *probability;            // (T,) out, of each code that is given
    float *audio;                  // (T,) out
};

#endif
