// Speaks from a mel spectrogram, without Python:   speak VOICE.gru MEL OUT.wav
//
// MEL holds float32 numbers (n_frames, n_mels), as a .npy or without any header. Build it in the repository with
//     python -m ziglang cc -O3 -march=native -I gru_audio/native examples/c/speak.c gru_audio/native/gru_audio.c -o speak
#include "gru_audio.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void require(int holds, const char *what, const char *why) {
    if (!holds) {
        fprintf(stderr, "%s: %s\n", what, why);
        exit(1);
    }
}
static void check(const char *what, enum gru_audio_status status) {
    require(status == GRU_AUDIO_OK, what, gru_audio_error_text(status));
}

static char *read_file(const char *path, size_t *n_bytes) {
    FILE *file = fopen(path, "rb");
    require(file && fseek(file, 0, SEEK_END) == 0, path, "No such file");
    *n_bytes = (size_t)ftell(file);
    char *bytes = calloc(*n_bytes + 16, 1);
    rewind(file);
    require(bytes && fread(bytes, 1, *n_bytes, file) == *n_bytes, path, "cannot be read");
    return fclose(file), bytes;
}

int main(int n_arguments, char **arguments) {
    require(n_arguments == 4, "usage", "speak VOICE.gru MEL OUT.wav");
    size_t voice_bytes, mel_bytes, n, n_last, header = 0;
    char *file = read_file(arguments[1], &voice_bytes), *mel = read_file(arguments[2], &mel_bytes);
    const gru_audio_voice *voice;
    check(arguments[1], gru_audio_open(file, voice_bytes, malloc(gru_audio_voice_size()), &voice));
    const struct gru_audio_facts *facts = gru_audio_facts_of(voice);
    if (!memcmp(mel, "\x93NUMPY", 6)) { // NumPy's header, whose length stands in two bytes
        header = 10 + (unsigned char)mel[8] + 256 * (size_t)(unsigned char)mel[9];
        const int fits = header <= mel_bytes && strstr(mel + 10, "'descr': '<f4', 'fortran_order': False");
        require(fits, arguments[2], "no array of float32; save it with np.save(path, mel.astype('<f4'))");
    }
    const size_t n_values = (mel_bytes - header) / sizeof(float), n_frames = n_values / (size_t)facts->n_mels;
    require(n_frames && n_values % (size_t)facts->n_mels == 0, arguments[2], "no whole frames of float32");
    float *audio = calloc(n_frames * (size_t)facts->hop_samples + 1, sizeof *audio);
    memmove(mel, mel + header, mel_bytes - header);

    gru_audio_stream *stream;
    check("start", gru_audio_start(voice, NULL, malloc(gru_audio_stream_size(voice)), &stream));
    check(arguments[2], gru_audio_push(stream, (float *)mel, n_frames, audio, &n)); // or a few at a time
    check("finish", gru_audio_finish(stream, audio + n, &n_last));

    // A WAV of float32, one channel.
    const uint32_t rate = (uint32_t)facts->sample_rate_hz, n_bytes = (uint32_t)((n + n_last) * sizeof *audio);
    const uint32_t wav[] = {0x46464952, 36 + n_bytes, 0x45564157,   0x20746D66, 16,     1 << 16 | 3,
                            rate,       4 * rate,     32 << 16 | 4, 0x61746164, n_bytes};
    FILE *out = fopen(arguments[3], "wb");
    const int wrote =
        out && fwrite(wav, sizeof wav, 1, out) == 1 && fwrite(audio, 1, n_bytes, out) == n_bytes;
    require(wrote && fclose(out) == 0, arguments[3], "cannot be written");
}
