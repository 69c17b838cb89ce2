// From audio to mel bands, 8 frames at a time in lanes; see gru_audio/signal/mel.py.
//
//     size[k] = |FFT(window audio)[k]|, squared for a mel of powers           k = 0 .. n_fft / 2
//     band[m] = sum_i  filter[m][i] size[first_bin[m] + i]                    i < length[m]
//
//     filters   | those of band 0, length[0] numbers | those of band 1 | ...  end to end
#ifndef GRU_MEL_H
#define GRU_MEL_H

#include "fft.h"
#include "lanes.h"

// A contract's analysis; nothing changes it.
struct mel_analysis {
    struct fft_plan fft;
    int64_t hop, width;       // samples from frame to frame, and under the window: at most the FFT's size
    int64_t n_mels;           // M
    int64_t is_power;         // 1 for the spectrum's square
    const float *window;      // (width,) without zeros around it: those would turn the phase alone
    const int64_t *first_bin; // (M,)
    const int64_t *length;    // (M,)
    const float *filters;
};

GRU_INLINE int64_t mel_n_bins(const struct mel_analysis *mel) {
    return mel->fft.size / 2 + 1;
}

// Spectra (K, 2, 8) of frames of audio. It works in both arrays, each (K, 2, 8), and gives back the one with
// the result.
static float *mel_spectra(const struct mel_analysis *mel, const float *audio, int64_t n_frames, float *a,
                          float *b) {
    windowed_to_lanes(audio, mel->hop, n_frames, mel->window, mel->width, a);
    memset(a + mel->width * FRAME_LANES, 0, (size_t)((mel->fft.size - mel->width) * FRAME_LANES) * sizeof *a);
    return fft_of_real(&mel->fft, a, b);
}

// The size (K, 8) of each bin of spectra (K, 2, 8); the size may take the spectra's place.
static void mel_sizes(const struct mel_analysis *mel, const float *spectra, float *size) {
    for (int64_t k = 0; k < mel_n_bins(mel); k++) {
        const struct fft_number x = fft_load(spectra, k);
        const f32x8 power = x.re * x.re + x.im * x.im;
        store_f32x8(size + k * FRAME_LANES, mel->is_power ? power : __builtin_elementwise_sqrt(power));
    }
}

// Bands (M, 8) of sizes (K, 8).
static void mel_bands(const struct mel_analysis *mel, const float *restrict size, float *restrict bands) {
    const float *filter = mel->filters;
    for (int64_t m = 0; m < mel->n_mels; m++) {
        const float *first = size + mel->first_bin[m] * FRAME_LANES;
        f32x8 sum = {0};
        for (int64_t i = 0; i < mel->length[m]; i++)
            sum += filter[i] * load_f32x8(first + i * FRAME_LANES);
        store_f32x8(bands + m * FRAME_LANES, sum);
        filter += mel->length[m];
    }
}

#endif
