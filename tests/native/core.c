// Runs the core's loops on made-up numbers. It prints a line for each: its name and, where every instruction
// set must give the same bits, a digest of them. It ends with 1 where a result is wrong by itself. run.py
// compiles it for each set and compares the lines; buffers are of the exact sizes, so that a sanitizer sees
// what reaches beyond.
#include "test_correction.h"
#include "test_loops.h"
#include "test_signal.h"
#include "test_training.h"

int main(void) {
    static const int64_t sizes[] = {2, 6, 8, 30, 128, 400, 512, 154};
    void (*const tests[])(void) = {test_codec, test_levinson, test_prediction, test_frames, test_mel,
                                   test_pitch, test_loudness, test_scan,       test_rows,   test_tree_loss};
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        random_state = 1;
        tests[i]();
        give_back_all();
    }
    for (enum block_kind kind = FLOAT_BLOCKS; kind <= PAIR_BLOCKS; kind++) {
        test_block_products(kind, 16);
        test_block_products(kind, 4);
        test_outer_products(kind);
    }
    test_correction(128, 1);
    test_correction(80, 1);
    test_correction(256, 2);
    give_back_all();
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        test_fft(sizes[i]);
        give_back_all();
    }
    for (int64_t n = 1; n <= 4; n *= 2)
        for (int64_t order = 0; order < 24; order += 8) {
            test_float32(n, order, order == 8);
            give_back_all();
        }
    test_byte_products();
    for (int64_t n = 1; n <= 4; n *= 2)
        for (int64_t bits = 6; bits <= 10; bits += 2) {
            const int64_t n_read = bits == 6 ? 2 * PAIR_FOURS : bits == 8 ? PAIR_FOURS / 2 : 2 * n;
            test_int8(n, n == 4 ? 0 : 8 * n, bits, n_read, bits == 6);
            give_back_all();
        }
    printf("%d wrong\n", n_wrong);
    return n_wrong != 0;
}
