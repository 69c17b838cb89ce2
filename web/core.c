// What the page runs as WebAssembly: the core's C interface, and Griffin and Lim's way for comparison.
#include "../gru_audio/native/gru_audio.c"

#include "griffin_lim.h"

// Whether the browser multiplies bytes as the core expects; see byte_products.h. `four` is four activations of 128, the
// only ones that processors may take for something else.
GRU_API int32_t gru_audio_products_are_exact(int32_t four) {
    i8x64 block;
    for (int i = 0; i < 64; i++)
        block[i] = (int8_t)(4 * i - 127);
    int32_t found[16], expected[16];
    store_i32x16(found, add_product(all_i32x16(7), four, block));
    for (int row = 0; row < 16; row++) {
        expected[row] = 7;
        for (int i = 0; i < 4; i++)
            expected[row] += 128 * block[4 * row + i];
    }
    return !ACTIVATION_OFFSET || memcmp(found, expected, sizeof found) == 0;
}
