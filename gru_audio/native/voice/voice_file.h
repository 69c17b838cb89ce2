// The file of an exported voice, which the core reads where it lies; see gru_audio's packed voices.
//
//     | header | numbers | places | array 0 | array 1 | ...          arrays begin on multiples of 64 bytes
//
//     header     magic, version, checksum of all that follows it, size of the file
//     numbers    struct voice_numbers
//     places     struct voice_place of each array, in the order in which voice_open.h reads them
//
// All numbers are little-endian. Each array's size follows from the numbers, and what the loops index by is within its
// range, or the file is refused: none of the bytes is trusted.
#ifndef GRU_VOICE_FILE_H
#define GRU_VOICE_FILE_H

#include <float.h>

#include "../vectors.h"

enum { VOICE_VERSION = 4, VOICE_ALIGNMENT = 64, VOICE_NOISE_TAPS = 3, VOICE_N_ARRAYS = 63 };
static const char VOICE_MAGIC[8] = {'G', 'R', 'U', 'V', 'O', 'I', 'C', 'E'};

struct voice_header {
    char magic[8];
    uint32_t version, checksum;
    uint64_t n_bytes;
};

struct voice_numbers {
    int64_t sample_rate_hz, n_fft, window_samples, hop_samples, n_mels;
    int64_t is_power, is_centred; // of the mel: the spectrum's square; padding "center"
    int64_t order, bits, shortest_lag, longest_lag, n_lag_bins;
    int64_t gru_size, conditioning_size, readout_size, pitch_size, samples_per_step;
    int64_t n_reset_blocks, n_update_blocks, n_new_blocks; // of each 16 rows
    int64_t n_readout_blocks;                              // of each 16 rows and 64 columns
    int64_t n_buckets, bucket_bits;                        // of mu-law's table
    int64_t is_shaped;                                     // noise of voiced frames
    int64_t n_corrections;                                 // as is usual; 0 where they are impossible
    int64_t low_division, n_low_bands, n_low_rounds; // of the correction's low end; 0 where there is none
    double log_unit, log_scale, log_offset, log_floor, silence; // of the mel; what silent bands are stored as
    double mel_preemphasis, preemphasis, excitation_range, signal_range, log_lag_range, readout_input_limit;
    double spectrum_floor, window_energy; // of linear prediction
    double correction_exponent, correction_log_limit, correction_full, correction_silent;
    double contrast_of_bands, contrast_of_frames, contrast_limit;
    double low_limit, low_momentum;
    double temperature, voiced_temperature, noise_taps[VOICE_NOISE_TAPS];
};

enum {
    VOICE_LARGEST_LAYER = 1 << 14,
    VOICE_LARGEST_FFT = 1 << 14,
    VOICE_LARGEST_MEL = 512,
    VOICE_LARGEST_ORDER = 32,
    VOICE_LARGEST_LAG = 1 << 14,
    VOICE_MOST_FACTORS = 16,
    VOICE_MOST_OVERLAPS = 64,
    VOICE_ONE_FFT = 128, // what fft_one.h takes multiples of
    VOICE_MOST_CORRECTIONS = 100
};
static const float VOICE_LARGEST_FACTOR = 1 << 20; // of gate and readout inputs: one over the least unit

GRU_INLINE bool voice_is_within(int64_t x, int64_t least, int64_t most) {
    return x >= least && x <= most;
}
GRU_INLINE bool voice_real_is_within(double x, double least, double most) {
    return x >= least && x <= most;
}
GRU_INLINE int64_t voice_padded(int64_t n, int64_t multiple) {
    return (n + multiple - 1) / multiple * multiple;
}

static bool voice_low_end_is_sound(const struct voice_numbers *n) {
    const int64_t d = n->low_division;
    if (d == 0)
        return n->n_low_bands == 0 && n->n_low_rounds == 0;
    return voice_is_within(d, 2, VOICE_LARGEST_FFT) && n->n_fft % (d * VOICE_ONE_FFT) == 0 &&
           n->hop_samples % d == 0 && n->window_samples % d == 0 &&
           voice_is_within(n->n_low_bands, 1, n->n_mels) &&
           voice_is_within(n->n_low_rounds, 0, VOICE_MOST_CORRECTIONS);
}

// What the audio would grow by without end: filters that are unstable, gains that go beyond what is missing.
static bool voice_levels_are_sound(const struct voice_numbers *n) {
    const double largest_log = 5.0; // of gains: 43 dB
    return voice_real_is_within(n->preemphasis, 0.0, 1.0) && voice_real_is_within(n->log_floor, 1e-30, 1.0) &&
           voice_real_is_within(n->excitation_range, 0.0, 1000.0) &&
           voice_real_is_within(n->signal_range, 0.0, 1000.0) &&
           voice_real_is_within(n->spectrum_floor, 1e-30, 1.0) &&
           voice_real_is_within(n->correction_exponent, 0.0, 2.0) &&
           voice_real_is_within(n->correction_log_limit, 0.0, largest_log) &&
           voice_real_is_within(n->window_energy, 0.01, 1e5) &&
           voice_real_is_within(n->correction_full, 0.01, 1e5) &&
           voice_real_is_within(n->contrast_of_bands, 0.0, 2.0) &&
           voice_real_is_within(n->contrast_of_frames, 0.0, 2.0) &&
           voice_real_is_within(n->contrast_limit, 0.0, largest_log) &&
           voice_real_is_within(n->low_limit, 1.0, 100.0) && voice_real_is_within(n->low_momentum, 0.0, 1.0);
}

// Every number alone and those that must fit together.
static bool voice_numbers_are_sound(const struct voice_numbers *n) {
    const double *reals = &n->log_unit, *end = n->noise_taps + VOICE_NOISE_TAPS;
    for (const double *real = reals; real < end; real++)
        if (!(*real >= -1e30 && *real <= 1e30))
            return false;
    const int64_t S = n->samples_per_step;
    const bool predicts = n->order > 0;
    return voice_is_within(n->sample_rate_hz, 8000, 48000) &&
           voice_is_within(n->n_fft, 64, VOICE_LARGEST_FFT) && n->n_fft % 2 == 0 &&
           voice_is_within(n->window_samples, 1, n->n_fft) &&
           voice_is_within(n->hop_samples, 1, n->window_samples) &&
           n->window_samples / n->hop_samples <= VOICE_MOST_OVERLAPS &&
           (n->is_centred || (n->n_fft - n->hop_samples) % 2 == 0) &&
           voice_is_within(n->n_mels, 8, VOICE_LARGEST_MEL) && voice_is_within(n->is_power, 0, 1) &&
           voice_is_within(n->is_centred, 0, 1) && voice_is_within(n->order, 0, VOICE_LARGEST_ORDER) &&
           voice_is_within(n->bits, 6, 10) && (S == 1 || S == 2 || S == 4) && n->hop_samples % S == 0 &&
           voice_is_within(n->shortest_lag, S, VOICE_LARGEST_LAG) &&
           voice_is_within(n->longest_lag, n->shortest_lag, VOICE_LARGEST_LAG) &&
           voice_is_within(n->n_lag_bins, predicts ? 2 : 0, predicts ? VOICE_LARGEST_LAG : 0) &&
           voice_is_within(n->gru_size, 1, VOICE_LARGEST_LAYER) &&
           voice_is_within(n->conditioning_size, 1, VOICE_LARGEST_LAYER) &&
           voice_is_within(n->readout_size, 1, VOICE_LARGEST_LAYER) &&
           voice_is_within(n->pitch_size, 1, VOICE_LARGEST_LAYER) &&
           voice_is_within(n->n_reset_blocks, 0, VOICE_LARGEST_LAYER) &&
           voice_is_within(n->n_update_blocks, 0, VOICE_LARGEST_LAYER) &&
           voice_is_within(n->n_new_blocks, 0, VOICE_LARGEST_LAYER) &&
           voice_is_within(n->n_readout_blocks, 2, 16) && n->n_readout_blocks % 2 == 0 &&
           voice_is_within(n->bucket_bits, 1, 30) && voice_is_within(n->n_buckets, 1, 1 << 24) &&
           voice_is_within(n->is_shaped, 0, 1) &&
           voice_is_within(n->n_corrections, 0, VOICE_MOST_CORRECTIONS) && voice_low_end_is_sound(n) &&
           voice_levels_are_sound(n) && n->log_unit > 0.0 && n->log_scale > 0.0 &&
           n->readout_input_limit >= 0.0 && n->log_lag_range >= 0.0 && n->log_lag_range <= 20.0 &&
           n->readout_input_limit * VOICE_LARGEST_FACTOR < 2147483520.0 && n->temperature > 0.0 &&
           n->temperature <= 10.0 && n->voiced_temperature > 0.0 && n->voiced_temperature <= 10.0;
}

struct voice_place {
    uint64_t offset, n_bytes; // from the file's beginning
};

// What goes through a file's arrays, one after the other; `is_sound` turns false at the first thing that is not.
struct voice_reader {
    const uint8_t *file;
    uint64_t n_bytes;
    const struct voice_place *next;
    bool is_sound;
};

GRU_INLINE void voice_require(struct voice_reader *reader, bool holds) {
    reader->is_sound = reader->is_sound && holds;
}

// The next array, of any number of items of a size; 0 of them where the place is wrong.
static const void *voice_take_some(struct voice_reader *reader, size_t item_bytes, int64_t *n) {
    const struct voice_place place = *reader->next++;
    const bool fits = place.offset % VOICE_ALIGNMENT == 0 && place.offset <= reader->n_bytes &&
                      place.n_bytes <= reader->n_bytes - place.offset && place.n_bytes % item_bytes == 0;
    voice_require(reader, fits);
    *n = fits ? (int64_t)(place.n_bytes / item_bytes) : 0;
    return fits ? reader->file + place.offset : NULL;
}

// The next array, of exactly so many items.
static const void *voice_take(struct voice_reader *reader, size_t item_bytes, int64_t n) {
    int64_t found;
    const void *array = voice_take_some(reader, item_bytes, &found);
    voice_require(reader, found == n);
    return reader->is_sound ? array : NULL;
}

// Floats from `least` to `most`.
static const float *voice_floats_within(struct voice_reader *reader, int64_t n, float least, float most) {
    const float *array = voice_take(reader, sizeof *array, n);
    for (int64_t i = 0; array && i < n; i++)
        voice_require(reader, array[i] >= least && array[i] <= most);
    return array;
}

// Floats and doubles, which must be finite.
static const float *voice_floats(struct voice_reader *reader, int64_t n) {
    return voice_floats_within(reader, n, -FLT_MAX, FLT_MAX);
}
static const double *voice_doubles(struct voice_reader *reader, int64_t n) {
    const double *array = voice_take(reader, sizeof *array, n);
    for (int64_t i = 0; array && i < n; i++)
        voice_require(reader, array[i] - array[i] == 0.0);
    return array;
}

// Whole numbers from `least` to `most`.
static const int64_t *voice_indices(struct voice_reader *reader, int64_t n, int64_t least, int64_t most) {
    const int64_t *array = voice_take(reader, sizeof *array, n);
    for (int64_t i = 0; array && i < n; i++)
        voice_require(reader, voice_is_within(array[i], least, most));
    return array;
}

// CRC-32 as of zlib, bit by bit in a table. Source: ISO 3309.
static uint32_t voice_checksum(const uint8_t *bytes, size_t n_bytes) {
#if defined(FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION) // made-up bytes would hardly ever have the right one
    (void)bytes, (void)n_bytes;
    return 0;
#else
    uint32_t table[256], sum = 0xFFFFFFFF;
    for (uint32_t i = 0; i < 256; i++) {
        table[i] = i;
        for (int bit = 0; bit < 8; bit++)
            table[i] = table[i] & 1 ? 0xEDB88320 ^ table[i] >> 1 : table[i] >> 1;
    }
    for (size_t i = 0; i < n_bytes; i++)
        sum = table[(sum ^ bytes[i]) & 255] ^ sum >> 8;
    return ~sum;
#endif
}

#endif
