// The C interface, see gru_audio.h. Compiled alone it is the whole library; engine.c includes it for Python.
#pragma STDC FP_CONTRACT OFF // nothing is fused, whatever the compiler is told

#include "signal/lpc.c"
#include "signal/mel.c"
#include "correction/correction.c"
#include "int8/int8_loop.c"
#include "loops/frames.c"

#include "voice/stream.h"

static const char STREAM_MAGIC[8] = {'G', 'R', 'U', 'S', 'T', 'R', 'M', '1'};

// What a saved stream begins with.
struct saved_header {
    char magic[8];
    uint64_t n_bytes;
    uint32_t voice, checksum; // the voice's file's; of all that follows
};

static bool settings_fit(const struct gru_audio_voice *voice, const struct gru_audio_settings *settings) {
    const int64_t most = voice->facts.correction_frames ? VOICE_MOST_CORRECTIONS : 0;
    return settings->temperature > 0.0 && settings->temperature <= 10.0 && settings->tail_cut >= 0.0 &&
           settings->tail_cut < 0.5 && voice_is_within(settings->corrections, 0, most);
}

static bool are_finite(const float *numbers, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (numbers[i] - numbers[i] != 0.0f)
            return false;
    return true;
}

const char *gru_audio_error_text(enum gru_audio_status status) {
    static const char *const texts[GRU_AUDIO_N_STATUSES] = {
        "no error",
        "the bytes are no exported voice; make one with: gru-audio export --voice VOICE -o voice.gru",
        "the voice was exported for another version of this library; export it again with the version in use",
        "the file of the voice is cut short or has bytes too many; copy it again",
        "the file of the voice is damaged: its checksum is wrong; copy it again",
        "the file of the voice has a number that is out of its range; export it again",
        "an address is no multiple of 8; pass memory as malloc gives it",
        "a setting is out of its range: temperature 0 to 10, tail_cut 0 to 0.5, corrections up to 100",
        "the mel or the audio has NaN or infinite values; make it anew",
        "the stream was finished before; start another",
        "the bytes are no saved stream, or are damaged; pass what gru_audio_save wrote, unchanged",
        "the stream was saved with another voice; open the one that it was saved with",
    };
    const bool is_known = (unsigned)status < GRU_AUDIO_N_STATUSES;
    return is_known ? texts[status] : "no status of this library";
}

size_t gru_audio_voice_size(void) {
    return sizeof(struct gru_audio_voice) + VOICE_ALIGNMENT;
}

enum gru_audio_status gru_audio_open(const void *file, size_t n_bytes, void *memory,
                                     const gru_audio_voice **voice) {
    if (!is_aligned(file) || !is_aligned(memory))
        return GRU_AUDIO_UNALIGNED;
    struct gru_audio_voice *opened = aligned_in(memory);
    const enum gru_audio_status status = voice_open(file, n_bytes, opened);
    if (status == GRU_AUDIO_OK)
        *voice = opened;
    return status;
}

const struct gru_audio_facts *gru_audio_facts_of(const gru_audio_voice *voice) {
    return &voice->facts;
}

size_t gru_audio_stream_size(const gru_audio_voice *voice) {
    struct gru_audio_stream stream = {.voice = voice};
    return (size_t)stream_divide(voice, NULL, &stream) + VOICE_ALIGNMENT;
}

enum gru_audio_status gru_audio_start(const gru_audio_voice *voice, const struct gru_audio_settings *settings,
                                      void *memory, gru_audio_stream **stream) {
    if (!is_aligned(memory))
        return GRU_AUDIO_UNALIGNED;
    const struct gru_audio_settings *wanted = settings ? settings : &voice->facts.usual;
    if (!settings_fit(voice, wanted))
        return GRU_AUDIO_BAD_SETTING;
    uint8_t *first = aligned_in(memory);
    struct gru_audio_stream started = {.voice = voice, .n_without_context = REMEMBERED_FRAMES};
    const int64_t n_bytes = stream_divide(voice, first, &started);
    memset(first, 0, (size_t)n_bytes);
    struct gru_audio_stream *its = (void *)first;
    *its = started;
    its->numbers->settings = *wanted;
    random_begin(&its->numbers->random, wanted->seed);
    const struct voice_numbers *n = voice->numbers;
    for (int64_t i = 0; i < n->longest_lag; i++)
        its->past_codes[i] = (int64_t)1 << (n->bits - 1);
    for (int64_t i = 0; i < CONTEXT_FRAMES * n->n_mels; i++)
        its->silence[i] = (float)n->silence;
    stream_advance(its, its->silence, CONTEXT_FRAMES, NULL);
    *stream = its;
    return GRU_AUDIO_OK;
}

enum gru_audio_status gru_audio_push(gru_audio_stream *stream, const float *mel, size_t n_frames,
                                     float *audio, size_t *n_samples) {
    const int64_t M = stream->voice->numbers->n_mels;
    if (stream->has_ended)
        return GRU_AUDIO_ENDED;
    if (!are_finite(mel, n_frames * (size_t)M))
        return GRU_AUDIO_BAD_INPUT;
    int64_t n_out = 0;
    for (int64_t left = (int64_t)n_frames; left > 0; left -= FRAMES_AT_ONCE) {
        const int64_t n = left < FRAMES_AT_ONCE ? left : FRAMES_AT_ONCE;
        n_out += stream_advance(stream, mel, n, audio + n_out);
        stream_remember(stream, mel, n);
        mel += n * M;
    }
    *n_samples = (size_t)n_out;
    return GRU_AUDIO_OK;
}

enum gru_audio_status gru_audio_finish(gru_audio_stream *stream, float *audio, size_t *n_samples) {
    if (stream->has_ended)
        return GRU_AUDIO_ENDED;
    const struct gru_audio_facts *facts = &stream->voice->facts;
    stream->has_ended = true;
    int64_t n_out = 0;
    if (stream->numbers->n_frames) {
        n_out = stream_advance(stream, stream->silence, CONTEXT_FRAMES, audio);
        // Behind the last frame comes none, not even of silence.
        memset(stream->linear, 0, (size_t)facts->n_mels * sizeof *stream->linear);
        for (int64_t f = 0; f < facts->correction_frames && stream->numbers->settings.corrections; f++) {
            memset(stream->audio, 0, (size_t)facts->hop_samples * sizeof *stream->audio);
            n_out += stream_correct(stream, stream->linear, 1, false, audio + n_out);
        }
    }
    *n_samples = (size_t)n_out;
    return GRU_AUDIO_OK;
}

size_t gru_audio_saved_size(const gru_audio_voice *voice) {
    struct gru_audio_stream stream = {.voice = voice};
    stream_divide(voice, NULL, &stream);
    return sizeof(struct saved_header) + (size_t)stream.n_saved;
}

enum gru_audio_status gru_audio_save(const gru_audio_stream *stream, void *saved) {
    if (stream->has_ended)
        return GRU_AUDIO_ENDED;
    const size_t n_saved = (size_t)stream->n_saved;
    const uint8_t *kept = (const uint8_t *)stream->numbers;
    struct saved_header header = {
        .n_bytes = n_saved, .voice = stream->voice->checksum, .checksum = voice_checksum(kept, n_saved)};
    memcpy(header.magic, STREAM_MAGIC, sizeof header.magic);
    memcpy(saved, &header, sizeof header);
    memcpy((uint8_t *)saved + sizeof header, kept, n_saved);
    return GRU_AUDIO_OK;
}

// What a restored stream would index by, or run in a loop, must be within its range, whatever the bytes are.
static bool stream_is_sound(const struct gru_audio_stream *stream) {
    const struct voice_numbers *n = stream->voice->numbers;
    bool is_sound = settings_fit(stream->voice, &stream->numbers->settings) &&
                    stream->numbers->n_frames >= 0 && stream->numbers->random.has_half <= 1;
    for (int64_t i = 0; i < n->longest_lag; i++)
        is_sound = is_sound && voice_is_within(stream->past_codes[i], 0, ((int64_t)1 << n->bits) - 1);
    return is_sound && are_finite(stream->recent, (size_t)(REMEMBERED_FRAMES * n->n_mels));
}

enum gru_audio_status gru_audio_restore(const gru_audio_voice *voice, const void *saved, size_t n_bytes,
                                        void *memory, gru_audio_stream **stream) {
    struct saved_header header;
    const uint8_t *kept = (const uint8_t *)saved + sizeof header;
    if (n_bytes != gru_audio_saved_size(voice) || memcmp(saved, STREAM_MAGIC, sizeof STREAM_MAGIC) != 0)
        return GRU_AUDIO_NO_STATE;
    memcpy(&header, saved, sizeof header);
    if (header.n_bytes != n_bytes - sizeof header ||
        header.checksum != voice_checksum(kept, n_bytes - sizeof header))
        return GRU_AUDIO_NO_STATE;
    if (header.voice != voice->checksum)
        return GRU_AUDIO_OTHER_VOICE;
    gru_audio_stream *restored;
    const enum gru_audio_status status = gru_audio_start(voice, NULL, memory, &restored);
    if (status != GRU_AUDIO_OK)
        return status;
    memcpy(restored->numbers, kept, n_bytes - sizeof header);
    if (!stream_is_sound(restored))
        return GRU_AUDIO_NO_STATE;
    const int64_t M = voice->numbers->n_mels, n_frames = restored->numbers->n_frames;
    const int64_t n = n_frames < REMEMBERED_FRAMES ? n_frames : REMEMBERED_FRAMES;
    stream_condition(restored, restored->recent + (REMEMBERED_FRAMES - n) * M, n); // as was heard before
    memmove(restored->linear, restored->linear + n * M,
            (size_t)(CONTEXT_FRAMES * M) * sizeof *restored->linear);
    *stream = restored;
    return GRU_AUDIO_OK;
}

// How many samples are mirrored at each end of the audio before it is cut into frames, and those of whole hops.
static int64_t mel_n_mirrored(const struct voice_numbers *n) {
    return n->is_centred ? n->n_fft / 2 : (n->n_fft - n->hop_samples) / 2;
}

size_t gru_audio_mel_frames(const gru_audio_voice *voice, size_t n_samples) {
    const struct voice_numbers *n = voice->numbers;
    const int64_t hop = n->hop_samples, whole = voice_padded((int64_t)n_samples, hop);
    return n_samples ? (size_t)((whole + 2 * mel_n_mirrored(n) - n->n_fft) / hop + 1) : 0;
}

size_t gru_audio_mel_size(const gru_audio_voice *voice, size_t n_samples) {
    const struct voice_numbers *n = voice->numbers;
    const int64_t whole = voice_padded((int64_t)n_samples, n->hop_samples);
    return (size_t)(whole + 2 * mel_n_mirrored(n) + gru_mel_scratch_size(&voice->correction.mel)) *
               sizeof(float) +
           2 * VOICE_ALIGNMENT;
}

// Audio (n,) with so many samples before and after it, mirrored as often as needed, in their place among zeros behind
// it up to whole hops.
static void mel_mirror(float *padded, int64_t n, int64_t n_mirrored) {
    const int64_t period = n > 1 ? 2 * (n - 1) : 1;
    float *first = padded + n_mirrored;
    for (int64_t i = 1; i <= n_mirrored; i++) {
        const int64_t before = i % period, after = (n - 1 + i) % period;
        first[-i] = first[before < n ? before : period - before];
        first[n - 1 + i] = first[after < n ? after : period - after];
    }
}

enum gru_audio_status gru_audio_mel(const gru_audio_voice *voice, const float *audio, size_t n_samples,
                                    void *memory, float *mel) {
    const struct voice_numbers *n = voice->numbers;
    if (!is_aligned(memory))
        return GRU_AUDIO_UNALIGNED;
    if (!are_finite(audio, n_samples))
        return GRU_AUDIO_BAD_INPUT;
    const int64_t n_given = (int64_t)n_samples, whole = voice_padded(n_given, n->hop_samples);
    const int64_t n_mirrored = mel_n_mirrored(n), n_frames = (int64_t)gru_audio_mel_frames(voice, n_samples);
    float *padded = aligned_in(memory), *first = padded + n_mirrored;
    float *scratch = aligned_in(padded + whole + 2 * n_mirrored);
    memset(padded, 0, (size_t)(whole + 2 * n_mirrored) * sizeof *padded);
    const float preemphasis = (float)n->mel_preemphasis;
    for (int64_t i = 0; i < whole && n_given; i++) {
        const float before = i && i <= n_given ? audio[i - 1] : 0.0f;
        first[i] = (i < n_given ? audio[i] : 0.0f) - preemphasis * before;
    }
    mel_mirror(padded, whole, n_mirrored);
    gru_mel(&voice->correction.mel, padded + (n->n_fft - n->window_samples) / 2, n_frames, scratch, mel);
    gru_mel_rescale(&voice->scale, mel, n_frames * n->n_mels, false, mel);
    return GRU_AUDIO_OK;
}
