// Noise that leaves the low harmonics of voiced speech; see gru_audio/synthesis/sampling.py.
//
//     w[t] = amplitude of the drawn code - mean of its distribution
//     e[t] = mean + w[t] - taps[0] w[t - 1] - taps[1] w[t - 2] - taps[2] w[t - 3]
//
//     noise    | w[t - 3] | w[t - 2] | w[t - 1] |
#ifndef GRU_SHAPING_H
#define GRU_SHAPING_H

#include "../vectors.h"

enum { NOISE_TAPS = 3, MEAN_GROUPS = 16 };

// What a block of samples is shaped with.
struct gru_shaping {
    int64_t is_on;            // 0: codes stay as they are drawn, and no mean is needed
    float taps[NOISE_TAPS];   // of the newest noise first
    float voiced_temperature; // in place of the temperature, where a frame is voiced
    float *noise;             // (3,) in place
    const float *group_means; // (16,) the mean amplitude of the codes that share their first four bits
};

// e[t] of a drawn amplitude; the noise moves on by a sample.
GRU_INLINE float shaped_amplitude(const struct gru_shaping *shaping, float amplitude, float mean) {
    float *noise = shaping->noise;
    const float shaped =
        amplitude - shaping->taps[0] * noise[2] - shaping->taps[1] * noise[1] - shaping->taps[2] * noise[0];
    noise[0] = noise[1];
    noise[1] = noise[2];
    noise[2] = amplitude - mean;
    return shaped;
}

// The mean amplitude of a distribution whose groups have these shares. The order of the sums is the same everywhere.
GRU_INLINE float mean_of_groups(const struct gru_shaping *shaping, f32x16 shares) {
    return sum_f32x16(shares * load_f32x16(shaping->group_means));
}

#endif
