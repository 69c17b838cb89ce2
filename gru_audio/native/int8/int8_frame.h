// A frame's inputs as the int8 loop's sums begin with them: whole numbers in each row's unit.
//
//     start = round(input / unit) - ACTIVATION_OFFSET sum of the row's weights + bias / unit
//
// The second term takes off what the bytes of the state are stored with; see byte_products.h.
#ifndef GRU_INT8_FRAME
#define GRU_INT8_FRAME

#include "../loops/block.h"
#include "int8.h"

// Far beyond where the gates are flat; times a factor it fits int32.
static const float LARGEST_GATE_INPUT = 1024.0f;

// round(inputs * factors) - offset * sums + bias, of n inputs; places behind them, up to `width`, get 0 and the rest.
static void int8_scale_inputs(const float *inputs, int64_t n, int64_t width, const float *factors,
                              float limit, const int32_t *sums, const int32_t *bias, int32_t *out) {
    for (int64_t i = 0; i < width; i += GROUP_UNITS) {
        f32x16 x = {0};
        if (i < n)
            memcpy(&x, inputs + i, (size_t)(n - i < GROUP_UNITS ? n - i : GROUP_UNITS) * sizeof *inputs);
        x = min_f32x16(max_f32x16(x, all_f32x16(-limit)), all_f32x16(limit)) * load_f32x16(factors + i);
        x += select_f32x16(x < 0.0f, all_f32x16(-0.5f), all_f32x16(0.5f));
        i32x16 whole = __builtin_convertvector(x, i32x16) - load_i32x16(sums + i) * ACTIVATION_OFFSET;
        if (bias)
            whole += load_i32x16(bias + i);
        store_i32x16(out + i, whole);
    }
}

// What frame f gives the sums of gates and readouts, in their units.
static void int8_take_frame(const struct gru_int8_network *network, const struct gru_block *block, int64_t f,
                            int32_t *starts, int32_t *readout_starts) {
    const int64_t size = network->gru_size, n_quads = int8_quads(size), n_padded = n_quads * QUAD_UNITS;
    for (int64_t quad = 0; quad < n_quads; quad++) {
        int32_t *its = starts + quad * INT8_STARTS * QUAD_UNITS;
        const int64_t first = quad * QUAD_UNITS;
        const float *inputs = block->gate_inputs + f * 3 * size + first;
        for (int64_t gate = RESET_START; gate <= NEW_START; gate++) {
            static const int32_t no_sums[QUAD_UNITS] = {0};
            const int64_t at = gate * n_padded + first;
            int8_scale_inputs(inputs + gate * size, size - first, QUAD_UNITS, network->gate_factors + at,
                              LARGEST_GATE_INPUT, gate == NEW_START ? no_sums : network->gate_sums + at, NULL,
                              its + gate * QUAD_UNITS);
        }
        for (int64_t i = 0; i < QUAD_UNITS; i++)
            its[INNER_START * QUAD_UNITS + i] =
                network->new_bias[first + i] -
                ACTIVATION_OFFSET * network->gate_sums[2 * n_padded + first + i];
    }
    const int64_t width = int8_quads(network->readout_size) * QUAD_UNITS;
    for (int64_t i = 0; i < network->samples_per_step; i++)
        int8_scale_inputs(block->readout_inputs + f * network->readout_size, network->readout_size, width,
                          network->readout_factors, network->readout_input_limit,
                          network->readout_sums + i * width, network->readout_bias + i * width,
                          readout_starts + i * width);
}

#endif
