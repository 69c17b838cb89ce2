// Mu-law companding: an amplitude to one of Q codes that are fine near zero, see gru_audio/signal/mulaw.py.
//
//     code(x) = how many of the Q - 1 ascending edges are at or below x
//
//     edges     e0   e1   e2   ...   e(Q-2)          Q - 1 numbers, Q a power of two
//     codes   0    1    2    3   ...       Q - 1
#ifndef GRU_MULAW_H
#define GRU_MULAW_H

#include "../vectors.h"

// The code of x by halving: log2(Q) comparisons. NaN gets code 0.
GRU_INLINE int32_t code_of(float x, const float *restrict edges, int32_t n_classes) {
    int32_t code = 0;
    for (int32_t step = n_classes / 2; step; step /= 2)
        code += edges[code + step - 1] <= x ? step : 0;
    return code;
}

#endif
