// The uniform numbers that draw samples: those of NumPy's `default_rng(seed).random(n, float32)`, number by number.
//
//     state  = state * multiplier + increment                     128 bits
//     output = (high ^ low) rotated right by the highest 6 bits   64 bits, used as two halves, the lower one first
//     number = (upper 24 bits of a half) / 2^24                   from 0 to below 1
//
// Source: O'Neill, PCG (2014), PCG XSL RR 128/64; the seed goes through NumPy's SeedSequence, a hash by the same author.
#ifndef GRU_RANDOM_H
#define GRU_RANDOM_H

#include "../vectors.h"

struct random_word { // of 128 bits
    uint64_t high, low;
};

struct random {
    struct random_word state, increment;
    uint32_t has_half, half; // the upper half of the last output, if it is still to be used
};

GRU_INLINE struct random_word random_add(struct random_word a, struct random_word b) {
    const uint64_t low = a.low + b.low;
    return (struct random_word){a.high + b.high + (low < a.low), low};
}

// a b, of whose 256 bits the lower half counts; from products of 32 bits, which every processor has.
GRU_INLINE struct random_word random_multiply(struct random_word a, struct random_word b) {
    const uint64_t half = 0xFFFFFFFF, a0 = a.low & half, a1 = a.low >> 32, b0 = b.low & half,
                   b1 = b.low >> 32;
    const uint64_t lower = a0 * b0, middle = a1 * b0 + (lower >> 32), other = a0 * b1 + (middle & half);
    const uint64_t high = a1 * b1 + (middle >> 32) + (other >> 32);
    return (struct random_word){high + a.high * b.low + a.low * b.high, other << 32 | (lower & half)};
}

GRU_INLINE void random_step(struct random *random) {
    const struct random_word multiplier = {0x2360ED051FC65DA4, 0x4385DF649FCCF645};
    random->state = random_add(random_multiply(random->state, multiplier), random->increment);
}

GRU_INLINE uint32_t random_half(struct random *random) {
    if (random->has_half) {
        random->has_half = 0;
        return random->half;
    }
    random_step(random);
    const uint64_t mixed = random->state.high ^ random->state.low;
    const unsigned turn = (unsigned)(random->state.high >> 58);
    const uint64_t output = mixed >> turn | mixed << (-turn & 63);
    random->has_half = 1;
    random->half = (uint32_t)(output >> 32);
    return (uint32_t)output;
}

static void random_fill(struct random *random, int64_t n, float *numbers) {
    for (int64_t i = 0; i < n; i++)
        numbers[i] = (float)(random_half(random) >> 8) * (1.0f / 16777216.0f);
}

// SeedSequence's hash of a word; its constant changes with every call.
GRU_INLINE uint32_t random_hash(uint32_t value, uint32_t *constant, uint32_t factor) {
    value ^= *constant;
    *constant *= factor;
    value *= *constant;
    return value ^ value >> 16;
}

static void random_begin(struct random *random, uint64_t seed) {
    enum { POOL = 4, WORDS = 8 };
    const uint32_t entropy[POOL] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t pool[POOL], constant = 0x43B0D7E5;
    for (int i = 0; i < POOL; i++)
        pool[i] = random_hash(entropy[i], &constant, 0x931E8875);
    for (int from = 0; from < POOL; from++)
        for (int to = 0; to < POOL; to++)
            if (from != to) {
                const uint32_t hashed = random_hash(pool[from], &constant, 0x931E8875);
                const uint32_t mixed = 0xCA01F9DD * pool[to] - 0x4973F715 * hashed;
                pool[to] = mixed ^ mixed >> 16;
            }
    uint64_t words[WORDS];
    constant = 0x8B51F9DD;
    for (int i = 0; i < WORDS; i++)
        words[i] = random_hash(pool[i % POOL], &constant, 0x58F38DED);
    const struct random_word state = {words[1] << 32 | words[0], words[3] << 32 | words[2]};
    const struct random_word stream = {words[5] << 32 | words[4], words[7] << 32 | words[6]};
    *random = (struct random){.increment = {stream.high << 1 | stream.low >> 63, stream.low << 1 | 1}};
    random_step(random);
    random->state = random_add(random->state, state);
    random_step(random);
}

#endif
