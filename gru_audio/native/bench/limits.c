// What one core can do at most, for `gru-audio bench`: reading memory, multiplying and adding floats, and bytes.
//
//     reading    | line | line | line | line | ...     each 64 bytes added to one of several sums
//     products   sums[0] += w[0] a,  sums[1] += w[1] a, ...     of registers, and of data in the nearest cache
//
// An addition waits for the one before it in the same sum, never for another sum's. So there are as many sums as
// keep the processor busy, and no more than its registers hold. All results are returned, as the compiler would
// leave out what nobody needs; bench/limits.py takes the times.
#include "../int8/byte_products.h"

// A sum is 64 bytes: one register with AVX-512, two with AVX2, four elsewhere. x86-64 has 32 with AVX-512, else 16.
#if defined(__AVX512F__)
enum { FLOAT_SUMS = 10, BYTE_SUM_PAIRS = 5, READ_SUMS = 4 }; // 5 cycles a product, two products a cycle
#elif defined(__AVX2__)
enum { FLOAT_SUMS = 6, BYTE_SUM_PAIRS = 3, READ_SUMS = 4 };
#else
enum { FLOAT_SUMS = 3, BYTE_SUM_PAIRS = 1, READ_SUMS = 2 };
#endif

enum { LIMIT_LANES = 16, LIMIT_LINE = 64 };
enum { FOURS_MASK = 63 }; // of activations, which are 64 fours

// The multiply-adds that one turn of each loop below does.
GRU_API int64_t gru_limit_float_products(void) {
    return FLOAT_SUMS * LIMIT_LANES;
}
GRU_API int64_t gru_limit_byte_products(void) {
    return 2 * BYTE_SUM_PAIRS * LIMIT_LINE;
}

// Reads n numbers n_times, and returns the sum of all that it read; n is a multiple of 64.
GRU_API int64_t gru_limit_read(const int64_t *numbers, int64_t n, int64_t n_times) {
    i64x8 sums[READ_SUMS] = {{0}};
    for (int64_t time = 0; time < n_times; time++)
        for (int64_t i = 0; i < n; i += READ_SUMS * 8)
            for (int k = 0; k < READ_SUMS; k++)
                sums[k] += load_i64x8(numbers + i + 8 * k);
    int64_t all = 0;
    for (int k = 0; k < READ_SUMS; k++)
        for (int lane = 0; lane < 8; lane++)
            all += sums[k][lane];
    return all;
}

// sums[k] = sums[k] / 2 + k, n_times; returns the sum of their first lanes.
GRU_API float gru_limit_multiply_floats(int64_t n_times) {
    f32x16 sums[FLOAT_SUMS] = {{0}};
    for (int64_t time = 0; time < n_times; time++)
        for (int k = 0; k < FLOAT_SUMS; k++)
            sums[k] = multiply_add_f32x16(sums[k], all_f32x16(0.5f), all_f32x16((float)k));
    float all = 0.0f;
    for (int k = 0; k < FLOAT_SUMS; k++)
        all += sums[k][0];
    return all;
}

// Multiplies each block of weights (2 BYTE_SUM_PAIRS of 64 bytes) by four activations (64 fours, in turn), n_times;
// returns the sum of everything.
GRU_API int64_t gru_limit_multiply_bytes(const int8_t *weights, const int8_t *activations, int64_t n_times) {
    struct running_sums sums[BYTE_SUM_PAIRS] = {{{0}, {0}}};
    for (int64_t time = 0; time < n_times; time++) {
        const int32_t four = load_four(activations + (time & FOURS_MASK) * 4);
        for (int k = 0; k < BYTE_SUM_PAIRS; k++) {
            const int8_t *blocks = weights + 2 * k * LIMIT_LINE;
            sums[k] =
                add_two_products(sums[k], four, load_i8x64(blocks), four, load_i8x64(blocks + LIMIT_LINE));
        }
    }
    int64_t all = 0;
    for (int k = 0; k < BYTE_SUM_PAIRS; k++) {
        const i32x16 its = total(sums[k]);
        for (int lane = 0; lane < LIMIT_LANES; lane++)
            all += its[lane];
    }
    return all;
}
