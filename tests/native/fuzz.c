// Bad input for the C interface, by clang's libFuzzer; see fuzz.py, which compiles and runs it.
//
// An input is a small program of steps. It begins with a sound voice, breaks some of its numbers, opens it, and lets
// streams speak: so that even a few bytes reach everything. Checksums are left out, see voice_file.h.
//
//     | which voice | step | its bytes | step | its bytes | ...
//
// All memory is of the exact size, and between a voice's arrays lie bytes that nothing may read, so that the sanitizers
// see what reaches beyond.
#include "../../gru_audio/native/gru_audio.c"

#include <sanitizer/asan_interface.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>

enum { MOST_VOICES = 8, MOST_FRAMES = 20, MOST_BYTES = 64 << 20, MOST_WORK = 1 << 24 };
enum step {
    SET_NUMBER,
    SET_PLACE,
    SET_BYTES,
    CUT,
    OPEN,
    START,
    PUSH,
    FINISH,
    SAVE,
    BREAK,
    RESTORE,
    MEL,
    N_STEPS
};

static struct {
    uint8_t *bytes;
    size_t n_bytes;
} voices[MOST_VOICES];
static int n_voices;

// What is still to be read of the input.
struct input {
    const uint8_t *next;
    size_t left;
};

static uint64_t take(struct input *input, size_t n_bytes) {
    uint64_t number = 0;
    for (size_t i = 0; i < n_bytes && input->left; i++, input->left--)
        number |= (uint64_t)*input->next++ << 8 * i;
    return number;
}

// Numbers that programs get wrong, or any.
static uint64_t take_number(struct input *input) {
    static const uint64_t telling[] = {0,  1,    2,       3,       7,         63,        64,
                                       65, 1000, 1 << 14, 1 << 30, INT32_MAX, INT64_MAX, UINT64_MAX};
    const uint64_t kind = take(input, 1);
    return kind < sizeof telling / sizeof *telling ? telling[kind] : take(input, kind % 8 + 1);
}

// What one input has under way.
struct run {
    uint8_t *file, *saved;
    size_t n_bytes, n_saved;
    void *voice_memory, *stream_memory;
    const gru_audio_voice *voice;
    gru_audio_stream *stream;
};

static void stop_stream(struct run *run) {
    free(run->stream_memory);
    run->stream_memory = run->stream = NULL;
}

static void stop_voice(struct run *run) {
    stop_stream(run);
    free(run->saved);
    free(run->voice_memory);
    run->saved = run->voice_memory = NULL;
    run->voice = NULL;
    __asan_unpoison_memory_region(run->file, run->n_bytes);
}

// Whether a voice would take this machine too long.
static bool is_heavy(const gru_audio_voice *voice) {
    const struct voice_numbers *n = voice->numbers;
    const int64_t work = n->hop_samples * (n->gru_size + n->readout_size + n->n_reset_blocks +
                                           n->n_update_blocks + n->n_new_blocks + n->order);
    return work > MOST_WORK / MOST_FRAMES || gru_audio_stream_size(voice) > MOST_BYTES;
}

static void open_voice(struct run *run) {
    stop_voice(run);
    if (run->n_bytes >= sizeof(struct voice_header)) {
        struct voice_header header;
        memcpy(&header, run->file, sizeof header);
        header.n_bytes = run->n_bytes;
        header.checksum = 0;
        memcpy(run->file, &header, sizeof header);
    }
    run->voice_memory = malloc(gru_audio_voice_size());
    if (gru_audio_open(run->file, run->n_bytes, run->voice_memory, &run->voice) != GRU_AUDIO_OK ||
        is_heavy(run->voice)) {
        stop_voice(run);
        return;
    }
    const uint8_t *first = (const uint8_t *)(run->voice->numbers + 1);
    const struct voice_place *places = (const void *)first;
    first += VOICE_N_ARRAYS * sizeof *places;
    __asan_poison_memory_region(first, run->n_bytes - (size_t)(first - run->file));
    for (int i = 0; i < VOICE_N_ARRAYS; i++)
        __asan_unpoison_memory_region(run->file + places[i].offset, places[i].n_bytes);
}

static void start(struct run *run, struct input *input) {
    stop_stream(run);
    struct gru_audio_settings settings = gru_audio_facts_of(run->voice)->usual;
    const uint64_t kind = take(input, 1);
    if (kind & 1)
        settings.seed = take(input, 8);
    if (kind & 2)
        settings.temperature = (double)take(input, 1) / 20.0;
    if (kind & 4)
        settings.tail_cut = (double)take(input, 1) / 500.0;
    if (kind & 8)
        settings.corrections = (int64_t)take(input, 1) % 4;
    run->stream_memory = malloc(gru_audio_stream_size(run->voice));
    if (gru_audio_start(run->voice, &settings, run->stream_memory, &run->stream) != GRU_AUDIO_OK)
        stop_stream(run);
}

// Floats of an input: each four bytes as they are, or all alike, or of a mel's usual size.
static float *floats_of(struct input *input, size_t n) {
    float *numbers = malloc(n * sizeof *numbers + 1);
    const uint64_t kind = take(input, 1);
    uint32_t bits = (uint32_t)take(input, 4);
    for (size_t i = 0; i < n; i++) {
        bits = kind % 3 == 0 ? (uint32_t)take(input, 4) : bits;
        memcpy(numbers + i, &bits, sizeof bits);
        if (kind % 3 == 1)
            numbers[i] = (float)((int64_t)((i * 2654435761u + bits) % 1000) - 700) / 50.0f;
    }
    return numbers;
}

static void push(struct run *run, struct input *input) {
    const struct gru_audio_facts *facts = gru_audio_facts_of(run->voice);
    const size_t n_frames = take(input, 1) % (MOST_FRAMES + 1), hop = (size_t)facts->hop_samples;
    float *mel = floats_of(input, n_frames * (size_t)facts->n_mels),
          *audio = malloc(n_frames * hop * sizeof *audio + 1);
    size_t n_samples = 0;
    if (gru_audio_push(run->stream, mel, n_frames, audio, &n_samples) == GRU_AUDIO_OK &&
        n_samples > n_frames * hop)
        abort();
    free(mel);
    free(audio);
}

static void finish(struct run *run) {
    const struct gru_audio_facts *facts = gru_audio_facts_of(run->voice);
    const size_t most = (size_t)((facts->context_frames + facts->correction_frames) * facts->hop_samples);
    float *audio = malloc(most * sizeof *audio);
    size_t n_samples = 0;
    if (gru_audio_finish(run->stream, audio, &n_samples) == GRU_AUDIO_OK && n_samples > most)
        abort();
    free(audio);
}

static void save(struct run *run) {
    free(run->saved);
    run->n_saved = gru_audio_saved_size(run->voice);
    run->saved = malloc(run->n_saved);
    if (gru_audio_save(run->stream, run->saved) != GRU_AUDIO_OK) {
        free(run->saved);
        run->saved = NULL;
    }
}

// Changes a saved stream.
static void break_saved(struct run *run, struct input *input) {
    const size_t at = take(input, 4) % run->n_saved;
    const uint64_t number = take_number(input);
    memcpy(run->saved + at, &number, run->n_saved - at < 8 ? run->n_saved - at : 8);
}

static void restore(struct run *run) {
    stop_stream(run);
    run->stream_memory = malloc(gru_audio_stream_size(run->voice));
    if (gru_audio_restore(run->voice, run->saved, run->n_saved, run->stream_memory, &run->stream) !=
        GRU_AUDIO_OK)
        stop_stream(run);
}

static void make_mel(struct run *run, struct input *input) {
    const size_t n_samples = take(input, 2) % 3000, n_frames = gru_audio_mel_frames(run->voice, n_samples);
    float *audio = floats_of(input, n_samples);
    float *mel = malloc(n_frames * (size_t)gru_audio_facts_of(run->voice)->n_mels * sizeof *mel + 1);
    void *memory = malloc(gru_audio_mel_size(run->voice, n_samples));
    gru_audio_mel(run->voice, audio, n_samples, memory, mel);
    free(audio);
    free(mel);
    free(memory);
}

// Changes the voice's file.
static void set(struct run *run, struct input *input, enum step step) {
    stop_voice(run);
    const size_t first = sizeof(struct voice_header), n_numbers = sizeof(struct voice_numbers) / 8;
    size_t at = 0;
    if (step == SET_NUMBER)
        at = first + take(input, 1) % n_numbers * 8;
    else if (step == SET_PLACE)
        at = first + (n_numbers + take(input, 1) % (2 * VOICE_N_ARRAYS)) * 8;
    else
        at = run->n_bytes ? take(input, 4) % run->n_bytes : 0;
    const uint64_t number = take_number(input);
    if (at < run->n_bytes)
        memcpy(run->file + at, &number, run->n_bytes - at < 8 ? run->n_bytes - at : 8);
}

static void do_step(struct run *run, struct input *input, enum step step) {
    if (step <= SET_BYTES)
        set(run, input, step);
    else if (step == CUT) {
        stop_voice(run);
        const size_t n_bytes = take(input, 4);
        run->n_bytes = n_bytes < run->n_bytes ? n_bytes : run->n_bytes;
        uint8_t *shorter = malloc(run->n_bytes + 1); // of the exact size, so that what reads beyond is seen
        memcpy(shorter, run->file, run->n_bytes);
        free(run->file);
        run->file = shorter;
    } else if (step == OPEN)
        open_voice(run);
    else if (run->voice && step == START)
        start(run, input);
    else if (run->stream && step == PUSH)
        push(run, input);
    else if (run->stream && step == FINISH)
        finish(run);
    else if (run->stream && step == SAVE)
        save(run);
    else if (run->saved && step == BREAK)
        break_saved(run, input);
    else if (run->saved && run->voice && step == RESTORE)
        restore(run);
    else if (run->voice && step == MEL)
        make_mel(run, input);
}

// libFuzzer ends in order at SIGUSR1.
static void ask_for_the_end(int which) {
    (void)which;
    raise(SIGUSR1);
}

// Ends the run after as many seconds of CPU time as the environment tells, however busy the machine is.
static void limit_time(void) {
    const char *limit = getenv("GRU_FUZZ_CPU_SECONDS");
    const struct itimerval timer = {.it_value.tv_sec = limit ? atol(limit) : 0};
    signal(SIGPROF, ask_for_the_end);
    setitimer(ITIMER_PROF, &timer, NULL); // of 0 seconds: never
}

// Reads the sound voices, whose paths the environment names.
int LLVMFuzzerInitialize(int *n_arguments, char ***arguments);
int LLVMFuzzerInitialize(int *n_arguments, char ***arguments) {
    (void)n_arguments, (void)arguments;
    limit_time();
    char *paths = getenv("GRU_FUZZ_VOICES"), nothing[] = "";
    for (char *path = strtok(paths ? paths : nothing, ":"); path && n_voices < MOST_VOICES;
         path = strtok(NULL, ":")) {
        FILE *file = fopen(path, "rb");
        if (!file)
            exit((perror(path), 2));
        fseek(file, 0, SEEK_END);
        const size_t n_bytes = (size_t)ftell(file);
        rewind(file);
        voices[n_voices].bytes = malloc(n_bytes);
        voices[n_voices].n_bytes = fread(voices[n_voices].bytes, 1, n_bytes, file);
        n_voices++;
        fclose(file);
    }
    return n_voices ? 0 : (fputs("GRU_FUZZ_VOICES names no voices\n", stderr), exit(2), 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input input = {data, size};
    const int which = (int)take(&input, 1) % n_voices;
    struct run run = {.n_bytes = voices[which].n_bytes};
    run.file = malloc(run.n_bytes);
    memcpy(run.file, voices[which].bytes, run.n_bytes);
    for (int n = 0; input.left && n < 60; n++)
        do_step(&run, &input, (enum step)(take(&input, 1) % N_STEPS));
    stop_voice(&run);
    free(run.file);
    return 0;
}
