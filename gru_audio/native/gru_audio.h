// Speech from mel spectrograms, without Python: the C interface of gru-audio.
//
//     void *file = ...;                                          what `gru-audio export -o voice.gru` wrote
//     gru_audio_open(file, n_bytes, voice_memory, &voice);       gru_audio_voice_size() bytes, the caller's
//     gru_audio_start(voice, NULL, stream_memory, &stream);      gru_audio_stream_size(voice) bytes, the caller's
//     gru_audio_push(stream, mel, n_frames, audio, &n_samples);  as often as frames come
//     gru_audio_finish(stream, audio, &n_samples);
//
// Build: compile gru_audio.c, which includes all that it needs, with clang 19 or newer or with zig:
//
//     zig cc -O3 -march=native my_program.c gru_audio.c -o my_program
//
// Samples are those of Python's `load(engine="int8").synthesize(mel, seed=...)`, bit for bit, on every processor and
// for any chunking of the frames. Nothing here allocates, keeps globals, or writes to the file's bytes.
//
// Memory belongs to the caller, at addresses that malloc gives (multiples of 8). A voice points into the file's bytes,
// and streams point to their voice: free the streams first, then the voice and the file.
//
// Threads: a voice may be used by any number of them at once; a stream by one at a time.
//
// Errors: functions return GRU_AUDIO_OK, or else what is wrong, which gru_audio_error_text tells. Nothing was taken or
// changed then.
#ifndef GRU_AUDIO_H
#define GRU_AUDIO_H

#include <stddef.h>
#include <stdint.h>

#ifndef GRU_API
#if defined(_WIN32)
#define GRU_API __declspec(dllexport)
#else
#define GRU_API __attribute__((visibility("default")))
#endif
#endif

#ifdef __cplusplus
extern "C" {
#endif

enum gru_audio_status {
    GRU_AUDIO_OK,
    GRU_AUDIO_NO_VOICE,      // the bytes are no exported voice
    GRU_AUDIO_OTHER_VERSION, // exported for another version of this interface
    GRU_AUDIO_CUT,           // the file has fewer or more bytes than it says
    GRU_AUDIO_DAMAGED,       // the checksum is wrong
    GRU_AUDIO_BAD_NUMBER,    // a size, place or value in the file is out of its range
    GRU_AUDIO_UNALIGNED,     // an address is no multiple of 8
    GRU_AUDIO_BAD_SETTING,   // a setting is out of its range
    GRU_AUDIO_BAD_INPUT,     // a mel or audio has NaN or infinite values
    GRU_AUDIO_ENDED,         // the stream was finished before
    GRU_AUDIO_NO_STATE,      // the bytes are no saved stream, or damaged
    GRU_AUDIO_OTHER_VOICE,   // the stream was saved with another voice
    GRU_AUDIO_N_STATUSES
};

typedef struct gru_audio_voice gru_audio_voice;   // an opened voice; nothing changes it
typedef struct gru_audio_stream gru_audio_stream; // one stream of mel frames in and audio out

// How a stream speaks.
struct gru_audio_settings {
    uint64_t seed;       // the same one gives the same samples
    double temperature;  // of the draws, above 0 and at most 10: below 1 less noisy
    double tail_cut;     // from 0 to below 0.5: choices less likely are never made
    int64_t corrections; // rounds of the spectral correction, 0 to 100; 0 alone where correction_frames is 0
};

// What a voice is.
struct gru_audio_facts {
    int64_t sample_rate_hz;          // of the audio
    int64_t hop_samples;             // of audio for each mel frame
    int64_t n_mels;                  // bands of a mel frame
    int64_t context_frames;          // how many frames the audio comes late, without corrections
    int64_t correction_frames;       // how many more with them
    struct gru_audio_settings usual; // what a stream has where nothing else is asked for
};

// What a status means, in one line of English: a constant string.
GRU_API const char *gru_audio_error_text(enum gru_audio_status status);

// Bytes of memory that an opened voice takes, the same for all.
GRU_API size_t gru_audio_voice_size(void);

// Opens a voice in memory. It checks the whole file: no later call reads or writes where it must not, whatever the
// bytes are. `file` must stay as it is while the voice is in use.
GRU_API enum gru_audio_status gru_audio_open(const void *file, size_t n_bytes, void *memory,
                                             const gru_audio_voice **voice);

// The facts of a voice, which live as long as it does.
GRU_API const struct gru_audio_facts *gru_audio_facts_of(const gru_audio_voice *voice);

// Bytes of memory that a stream takes.
GRU_API size_t gru_audio_stream_size(const gru_audio_voice *voice);

// Starts a stream; before its first frame there is silence. NULL for the voice's usual settings.
GRU_API enum gru_audio_status gru_audio_start(const gru_audio_voice *voice,
                                              const struct gru_audio_settings *settings, void *memory,
                                              gru_audio_stream **stream);

// Takes mel frames (n_frames, n_mels) under the voice's contract, and gives the audio of those whose lookahead has come:
// at most n_frames * hop_samples samples, full scale 1. It may go beyond: whoever plays it clips.
GRU_API enum gru_audio_status gru_audio_push(gru_audio_stream *stream, const float *mel, size_t n_frames,
                                             float *audio, size_t *n_samples);

// Ends a stream, and gives the audio of the frames still waiting: at most (context_frames + correction_frames) *
// hop_samples samples, so that all calls together give hop_samples for each frame.
GRU_API enum gru_audio_status gru_audio_finish(gru_audio_stream *stream, float *audio, size_t *n_samples);

// Bytes that a saved stream takes.
GRU_API size_t gru_audio_saved_size(const gru_audio_voice *voice);

// Writes all that a stream needs to go on, to bytes that a file may hold; any machine can take it up.
GRU_API enum gru_audio_status gru_audio_save(const gru_audio_stream *stream, void *saved);

// Takes up a stream where it was saved: it goes on bit for bit. The saved bytes are not needed after.
GRU_API enum gru_audio_status gru_audio_restore(const gru_audio_voice *voice, const void *saved,
                                                size_t n_bytes, void *memory, gru_audio_stream **stream);

// The mel of a whole clip under the voice's contract, as Python's `vocoder.mel` makes it of audio at the voice's rate.
// gru_audio_mel_frames tells how many frames it has, gru_audio_mel_size how many bytes of memory it works in.
GRU_API size_t gru_audio_mel_frames(const gru_audio_voice *voice, size_t n_samples);
GRU_API size_t gru_audio_mel_size(const gru_audio_voice *voice, size_t n_samples);
GRU_API enum gru_audio_status gru_audio_mel(const gru_audio_voice *voice, const float *audio,
                                            size_t n_samples, void *memory, float *mel);

#ifdef __cplusplus
}
#endif

#endif
