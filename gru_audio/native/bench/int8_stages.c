// The stages of the int8 sample loop, each repeated by itself for `gru-audio bench`: the time that it takes where
// nothing hides it. The loop overlaps them, as it computes products of the next step while it draws.
//
//     PRODUCTS   starts + products                                                                  once a step
//     STEP       table rows, gates, the new state and its products for the readouts
//     READOUT    the readout's table rows, and its values as bytes                                  once a sample
//     DRAW       the code, from these bytes
//
//     codes      | sample 0: 10 places, one for each table | sample 1 | ...
#include "../int8/int8_loop.c"

enum int8_stage { PRODUCTS_STAGE, STEP_STAGE, READOUT_STAGE, DRAW_STAGE };

// Made-up inputs of T = n_steps S samples.
struct gru_int8_stage_inputs {
    int64_t n_steps;
    const float *gate_inputs;    // (3H,) of one frame
    const float *readout_inputs; // (R,)
    const int64_t *codes;        // (T, 10)
    const float *uniforms;       // (T,)
    int64_t *drawn;              // (T,) out
};

// The room as a step finds it, with the state that it holds.
GRU_API void gru_int8_start_stages(const struct gru_int8_network *network, const struct gru_int8_room *room,
                                   const struct gru_int8_stage_inputs *inputs) {
    const struct gru_block frame = {.gate_inputs = inputs->gate_inputs,
                                    .readout_inputs = inputs->readout_inputs};
    int8_take_frame(network, &frame, 0, room->starts, room->readout_starts);
    int8_store_state(network, room);
}

// Every other step goes through the network backwards, as in the loop.
static void stage_products(const struct gru_int8_network *network, const struct gru_int8_room *room,
                           int64_t n_steps) {
    const int64_t n_pairs = network->n_pairs;
    for (int64_t step = 0; step < n_steps; step++)
        for (int64_t i = 0; i < n_pairs; i++)
            int8_multiply_pair(network, room, room->starts, step & 1 ? n_pairs - 1 - i : i);
}

// The products are always those with the bytes before the first step.
GRU_INLINE void stage_step(const struct gru_int8_network *network, const struct gru_int8_room *room,
                           const struct gru_int8_stage_inputs *inputs, int64_t n_samples, int64_t n_tables) {
    const int64_t row_bytes = int8_quads(network->gru_size) * 3 * QUAD_UNITS;
    const int8_t *rows[INT8_MOST_TABLES];
    for (int64_t step = 0; step < inputs->n_steps; step++) {
        const int64_t *codes = inputs->codes + step * n_samples * INT8_MOST_TABLES;
        int8_find_rows(network->step_tables, row_bytes, (int64_t)1 << network->bits, codes, n_tables, rows);
        int8_step(network, room, rows, n_tables, !(step & 1));
    }
}

// In the loop a sample's codes wait for the one before. So they do here: no byte of the row is negative, which the
// compiler cannot know.
GRU_INLINE void stage_readout(const struct gru_int8_network *network, const struct gru_int8_room *room,
                              const struct gru_int8_stage_inputs *inputs, int64_t n_samples,
                              int64_t n_tables) {
    const int64_t row_bytes = int8_quads(network->readout_size) * QUAD_UNITS;
    const int8_t *rows[INT8_MOST_TABLES];
    for (int64_t t = 0; t < inputs->n_steps * n_samples; t++) {
        const int64_t *codes = inputs->codes + (t + (room->row[0] < 0)) * INT8_MOST_TABLES;
        int8_find_rows(network->readout_tables, row_bytes, (int64_t)1 << network->bits, codes, n_tables,
                       rows);
        int8_read_out(network, room, t % n_samples, rows, n_tables);
    }
}

// Each draw waits for the code before, which has no bit beyond those of a code.
static void stage_draw(const struct gru_int8_network *network, const struct gru_int8_room *room,
                       const struct gru_int8_stage_inputs *inputs) {
    const int64_t unvoiced = 0;
    const struct gru_block block = {.lags = &unvoiced, .uniforms = inputs->uniforms, .temperature = 1.0f};
    struct int8_ahead nothing = {.n_pauses = 1 + network->n_pairs};
    struct gru_int8_room its_room = *room;
    int64_t code = 0;
    for (int64_t t = 0; t < inputs->n_steps * network->samples_per_step; t++) {
        float probability;
        its_room.row = room->row + (code >> network->bits);
        code = int8_draw(network, &its_room, &block, 0, t, &nothing, &probability);
        inputs->drawn[t] = code;
    }
}

// With numbers that the compiler knows where it knows them in the loop.
GRU_INLINE void stage_of_tables(const struct gru_int8_network *network, const struct gru_int8_room *room,
                                const struct gru_int8_stage_inputs *inputs, int64_t stage, int64_t n_samples,
                                bool predicts) {
    if (stage == STEP_STAGE)
        stage_step(network, room, inputs, n_samples, predicts ? 2 * n_samples + 2 : n_samples);
    else
        stage_readout(network, room, inputs, n_samples, predicts ? n_samples + 3 : n_samples);
}

// One stage, n_steps times.
GRU_API void gru_int8_stage(const struct gru_int8_network *network, const struct gru_int8_room *room,
                            const struct gru_int8_stage_inputs *inputs, int64_t stage) {
    const int64_t n_samples = network->samples_per_step;
    if (stage == PRODUCTS_STAGE)
        stage_products(network, room, inputs->n_steps);
    else if (stage == DRAW_STAGE)
        stage_draw(network, room, inputs);
    else if (n_samples == 1 && network->order)
        stage_of_tables(network, room, inputs, stage, 1, true);
    else if (n_samples == 2 && network->order)
        stage_of_tables(network, room, inputs, stage, 2, true);
    else
        stage_of_tables(network, room, inputs, stage, n_samples, network->order > 0);
}
