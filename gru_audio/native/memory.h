// A caller's memory, taken piece by piece; each piece begins on a cache line, as vectors are quickest.
//
//     | piece 0 |    | piece 1 | piece 2 |  ..          a first pass without a beginning counts the size alone
#ifndef GRU_MEMORY_H
#define GRU_MEMORY_H

#include "vectors.h"

enum { MEMORY_LINE = 64 };

struct memory {
    uint8_t *first; // NULL in the first pass
    int64_t size;
};

static void *memory_take(struct memory *memory, int64_t n, size_t item_bytes) {
    void *piece = memory->first ? memory->first + memory->size : NULL;
    memory->size += (n * (int64_t)item_bytes + MEMORY_LINE - 1) / MEMORY_LINE * MEMORY_LINE;
    return piece;
}
static float *memory_floats(struct memory *memory, int64_t n) {
    return memory_take(memory, n, sizeof(float));
}

#endif
