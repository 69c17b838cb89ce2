// The contrast of the mel that audio is corrected towards: what stands out of its surroundings stands out a little
// more, and what lies low lies lower, so that less of the drawn noise is heard between formants and between sounds.
//
//     L     = ln mel, of M bands, nothing below the floor
//     d     = b (L - mean of the bands around it) + f (L - mean of the frames around it)      within a limit
//     L'    = L + d + what keeps the frame's energy as it is
//
// So the loudest bands stay about where they were, and a quiet one may lose twice the limit.
//
// Source: Chen & Gersho, Adaptive postfiltering for quality enhancement of coded speech (1995), for formants.
#ifndef GRU_CORRECTION_CONTRAST_H
#define GRU_CORRECTION_CONTRAST_H

#include "correction_frame.h"

enum { CONTRAST_FRAMES = 2 }; // before a frame and after it

GRU_INLINE int64_t contrast_lesser(int64_t a, int64_t b) {
    return a < b ? a : b;
}
GRU_INLINE float contrast_log(float x) {
    return exact_log_f32x16(all_f32x16(x))[0];
}

// The logarithms (M',) of the newest frame that came, from its linear mel (M,).
static void contrast_take(const struct correction_plan *plan, const struct correction_stream *stream,
                          const float *restrict mel) {
    const int64_t n_mels = plan->mel.n_mels, row = correction_padded(n_mels);
    float *logs = stream->logs + (plan->n_open - 1 + plan->reach) * row;
    for (int64_t m = 0; m < n_mels; m += 16) {
        f32x16 bands = {0};
        memcpy(&bands, mel + m, (size_t)contrast_lesser(n_mels - m, 16) * sizeof(float));
        store_f32x16(logs + m, exact_log_f32x16(max_f32x16(bands, all_f32x16(plan->floor))));
    }
}

// The sum over (M,) bands of e^(factor L); each band's goes to `parts`.
static float contrast_energy(const float *logs, int64_t n_mels, float factor, float *parts) {
    float sum = 0.0f;
    for (int64_t m = 0; m < n_mels; m += 16)
        store_f32x16(parts + m, exact_exp_f32x16(factor * load_f32x16(logs + m)));
    for (int64_t m = 0; m < n_mels; m++)
        sum += parts[m];
    return sum;
}

// The targets (M,) of the newest open frame; those of the other open ones stay.
static void contrast_set_targets(const struct correction_plan *plan, const struct correction_stream *stream,
                                 const struct correction_room *room) {
    const int64_t n_mels = plan->mel.n_mels, row = correction_padded(n_mels), newest = plan->n_open - 1;
    const int64_t first = newest - contrast_lesser(newest, CONTRAST_FRAMES),
                  last = newest + contrast_lesser(plan->reach, CONTRAST_FRAMES), near = 3 * n_mels / 16;
    const float *restrict logs = stream->logs + newest * row;
    float *restrict sharp = room->bands, *restrict below = room->below; // the sums of the bands before each
    memset(sharp, 0, (size_t)row * sizeof(float));
    float n_frames = 0.0f;
    for (int64_t t = first; t <= last; t++) {
        if (!stream->valid[t])
            continue;
        n_frames += 1.0f;
        for (int64_t m = 0; m < row; m++)
            sharp[m] += stream->logs[t * row + m];
    }
    below[0] = 0.0f;
    for (int64_t m = 0; m < n_mels; m++)
        below[m + 1] = below[m] + logs[m];
    const float power = plan->mel.is_power ? 2.0f : 1.0f, limit = plan->contrast_limit,
                floor = contrast_log(plan->floor),
                silent = plan->silent > 0.0f ? contrast_log(plan->silent) : floor - 1.0f;
    for (int64_t m = 0; m < n_mels; m++) {
        const int64_t lowest = m < near ? 0 : m - near, end = contrast_lesser(m + near + 1, n_mels);
        const float around = (below[end] - below[lowest]) / (float)(end - lowest);
        const float d = plan->contrast_of_bands * (logs[m] - around) +
                        plan->contrast_of_frames * (logs[m] - sharp[m] / n_frames);
        const float sharper = logs[m] + (d < -limit ? -limit : d > limit ? limit : d);
        sharp[m] = sharper > floor ? sharper : floor;
    }
    for (int64_t m = n_mels; m < row; m++)
        sharp[m] = floor;
    const float before = contrast_energy(logs, n_mels, 2.0f / power, below),
                after = contrast_energy(sharp, n_mels, 2.0f / power, below);
    const f32x16 kept = all_f32x16(0.5f * power * contrast_log(before / after));
    for (int64_t m = 0; m < n_mels; m += 16)
        store_f32x16(sharp + m,
                     exact_exp_f32x16(max_f32x16(load_f32x16(sharp + m) + kept, all_f32x16(floor))));
    float *targets = stream->targets + newest * n_mels;
    for (int64_t m = 0; m < n_mels; m++)
        targets[m] = logs[m] > silent ? sharp[m] : 0.0f;
}

#endif
