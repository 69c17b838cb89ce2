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

// Numbers (n,) of the filterbank as a contract stores them, and back.
GRU_API void gru_mel_to_stored(const struct mel_scale *scale, const float *linear, int64_t n, float *stored) {
    mel_rescale(scale, linear, n, false, stored);
}
GRU_API void gru_mel_to_linear(const struct mel_scale *scale, const float *stored, int64_t n, float *linear) {
    mel_rescale(scale, stored, n, true, linear);
}
