// Which instruction sets this processor and its operating system have: bit i stands for set i of
// instruction_sets.INSTRUCTION_SETS. The loader asks the library of the least set and then loads the best.
//
//     x86-64     bit 0 baseline, 1 avx2, 2 avxvnni, 3 avx512, 4 avx512bf16
//     aarch64    bit 0 neon, 1 dotprod
#include "vectors.h"

// The number of the interface that Python's side is written for, instruction_sets.INTERFACE: a library that was
// compiled before the two changed is refused. tests/native/test_native.py makes it from all declarations, and tells
// what it must be.
enum { INTERFACE = 0x059F1DEB };

GRU_API int64_t gru_interface(void) {
    return INTERFACE;
}

#if defined(__x86_64__)

struct registers {
    uint32_t a, b, c, d;
};

static struct registers cpuid(uint32_t leaf, uint32_t subleaf) {
    struct registers r;
    __asm__ volatile("cpuid" : "=a"(r.a), "=b"(r.b), "=c"(r.c), "=d"(r.d) : "a"(leaf), "c"(subleaf));
    return r;
}

// Which registers the operating system keeps when it switches between processes.
static uint32_t kept_registers(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static bool has_all(uint32_t bits, uint32_t wanted) {
    return (bits & wanted) == wanted;
}

// Source: Intel, Software Developer's Manual, volume 2A, CPUID; the levels are the x86-64 psABI's v3 and v4.
GRU_API int64_t gru_instruction_sets(void) {
    const uint32_t fma = 1u << 12, movbe = 1u << 22, osxsave = 1u << 27, avx = 1u << 28, f16c = 1u << 29;
    const uint32_t bmi1 = 1u << 3, avx2 = 1u << 5, bmi2 = 1u << 8, lzcnt = 1u << 5;
    const uint32_t avx512 = 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31; // F, DQ, CD, BW, VL
    const uint32_t vnni = 1u << 11, avx_vnni = 1u << 4, bf16 = 1u << 5;
    const uint32_t ymm = 0x6, zmm = 0xE6;

    int64_t sets = 1;
    const uint32_t last_leaf = cpuid(0, 0).a;
    const struct registers basic = cpuid(1, 0);
    if (last_leaf < 7 || !has_all(basic.c, fma | movbe | osxsave | avx | f16c))
        return sets;
    const struct registers extended = cpuid(7, 0);
    if (!has_all(kept_registers(), ymm) || !has_all(extended.b, bmi1 | avx2 | bmi2) ||
        !has_all(cpuid(0x80000001u, 0).c, lzcnt))
        return sets;
    sets |= 1 << 1;
    const uint32_t newer = extended.a ? cpuid(7, 1).a : 0;
    if (has_all(newer, avx_vnni))
        sets |= 1 << 2;
    if (has_all(kept_registers(), zmm) && has_all(extended.b, avx512) && has_all(extended.c, vnni)) {
        sets |= 1 << 3;
        if (has_all(newer, bf16))
            sets |= 1 << 4;
    }
    return sets;
}

#elif defined(__aarch64__)

#if defined(__linux__)
#include <sys/auxv.h>
static bool has_dot_products(void) {
    return getauxval(AT_HWCAP) & 1 << 20; // HWCAP_ASIMDDP
}
#else
static bool has_dot_products(void) {
    return true; // as every processor of Apple's and every one that runs Windows 11
}
#endif

GRU_API int64_t gru_instruction_sets(void) {
    return has_dot_products() ? 3 : 1;
}

#else

GRU_API int64_t gru_instruction_sets(void) {
    return 1;
}

#endif
