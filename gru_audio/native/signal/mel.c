// The linear mel of audio, see mel.h.
#include "mel.h"
#include "mel_scale.h"

// How many floats gru_mel works in: two spectra and the bands.
GRU_API int64_t gru_mel_scratch_size(const struct mel_analysis *mel) {
    return 2 * mel_n_bins(mel) * FFT_STEP + mel->n_mels * FRAME_LANES;
}

// Bands (F, M) of frames, one every hop from the audio's beginning on.
GRU_API void gru_mel(const struct mel_analysis *mel, const float *restrict audio, int64_t n_frames,
                     float *restrict scratch, float *restrict linear) {
    float *a = scratch, *b = a + mel_n_bins(mel) * FFT_STEP, *bands = b + mel_n_bins(mel) * FFT_STEP;
    for (int64_t f = 0; f < n_frames; f += FRAME_LANES) {
        const int64_t n = n_frames - f < FRAME_LANES ? n_frames - f : FRAME_LANES;
        float *spectra = mel_spectra(mel, audio + f * mel->hop, n, a, b);
        mel_sizes(mel, spectra, spectra);
        mel_bands(mel, spectra, bands);
        lanes_to_rows(bands, mel->n_mels, linear + f * mel->n_mels, mel->n_mels, n);
    }
}

// Numbers (n,) from what the filterbank gives to what a contract stores, or back, in place or not. `to_linear` says which way.
GRU_API void gru_mel_rescale(const struct mel_scale *scale, const float *from, int64_t n, int64_t to_linear,
                             float *to) {
    for (int64_t i = 0; i < n; i += MEL_SCALE_LANES) {
        const size_t n_bytes = (size_t)(n - i < MEL_SCALE_LANES ? n - i : MEL_SCALE_LANES) * sizeof *from;
        f32x8 x = {0};
        memcpy(&x, from + i, n_bytes);
        x = to_linear ? mel_linear_of(scale, x) : mel_stored_of(scale, x);
        memcpy(to + i, &x, n_bytes);
    }
}
