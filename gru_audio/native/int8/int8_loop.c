// The sample loop in int8, for a GRU with a tree output: float32_loop.c's formulas, the weights and the state in bytes.
//
//     a sample                  | codes, rows | gates | readout | subtree | subtree | sample
//     products of the next step |                     |  pause  |  pause  |  pause  |  pause
//
// What a draw computes waits for itself nearly all the time. The next step's recurrent products need no code that is
// still to be drawn: they fill those pauses. Steps go through the quads forwards and backwards in turn: what a cache has
// kept is then what is needed first.
//
// Nothing here is fused and no processor's approximation is used: all instruction sets give the same bits.
#ifndef GRU_INT8_LOOP
#define GRU_INT8_LOOP // int8_stages.c includes it too

#include "../loops/draw.h"
#include "int8_frame.h"
#include "int8_gru.h"
#include "int8_readout.h"

// Which of the next step's pairs are to be multiplied in the pauses of this step's draws.
struct int8_ahead {
    int64_t next, step;    // pairs
    int64_t n_pauses;      // that all pairs are spread over
    int64_t due;           // n_pairs for each pause so far, less n_pauses for each pair that is done
    const int32_t *starts; // of the frame that the next step belongs to
};

GRU_INLINE void int8_fill_pause(const struct gru_int8_network *network, const struct gru_int8_room *room,
                                struct int8_ahead *ahead) {
    for (ahead->due += network->n_pairs; ahead->due >= ahead->n_pauses; ahead->due -= ahead->n_pauses) {
        int8_multiply_pair(network, room, ahead->starts, ahead->next);
        ahead->next += ahead->step;
    }
}

// mulaw.h's code_of by table: equal steps of a float's bits give the code, but for one edge at most.
GRU_INLINE int32_t int8_code_of(const struct gru_int8_network *network, float value) {
    int32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const int32_t ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF); // in the order of the numbers
    int64_t bucket = (ordered >> network->bucket_bits) + network->n_buckets / 2;
    bucket = bucket < 0 ? 0 : bucket < network->n_buckets ? bucket : network->n_buckets - 1;
    const int32_t code = network->first_codes[bucket];
    return code + (network->edges[code] <= value);
}

// The codes of n values: for tests.
GRU_API void gru_int8_codes(const struct gru_int8_network *network, const float *values, int64_t n,
                            int64_t *codes) {
    for (int64_t i = 0; i < n; i++)
        codes[i] = int8_code_of(network, values[i]);
}

// The bytes of the state that the room holds.
static void int8_store_state(const struct gru_int8_network *network, const struct gru_int8_room *room) {
    for (int64_t i = 0; i < int8_quads(network->gru_size) * QUAD_UNITS; i += PAIR_UNITS)
        int8_store_activations(room->activations + i, load_i16x32(room->hidden + i));
}

// A state (H,), rounded, to where the steps go on from.
static void int8_take_state(const struct gru_int8_network *network, const float *hidden,
                            const struct gru_int8_room *room) {
    for (int64_t i = 0; i < network->gru_size; i++) {
        const float h = hidden[i] < -1.0f ? -1.0f : hidden[i] < 1.0f ? hidden[i] : 1.0f;
        room->hidden[i] = (int16_t)(h * (float)STATE_ONE + (h < 0.0f ? -0.5f : 0.5f));
    }
    int8_store_state(network, room);
}

GRU_INLINE void int8_swap(int32_t **a, int32_t **b) {
    int32_t *kept = *a;
    *a = *b;
    *b = kept;
}

// What the samples so far add to the predictions to come, P at most 32: each sum goes from its oldest sample on.
//
//     lane 0: the next sample's, but for what the newest adds    lane 1: the one's after it    ..
struct int8_predictions {
    f32x16 coefficients[2], sums[2];
};

// Adds a sample, and goes on to the next one.
GRU_INLINE void int8_predict_on(struct int8_predictions *its, float sample) {
    const f32x16 none = {0}, a = its->sums[0] + its->coefficients[0] * sample,
                 b = its->sums[1] + its->coefficients[1] * sample;
    its->sums[0] = __builtin_shufflevector(a, b, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16);
    its->sums[1] = __builtin_shufflevector(b, none, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16);
}

// Of frame f, whose first sample is t, with its own coefficients.
static struct int8_predictions int8_start_predictions(const struct gru_int8_network *network,
                                                      const struct gru_block *block, int64_t f, int64_t t) {
    struct int8_predictions its = {0};
    memcpy(its.coefficients, block->coefficients + f * network->order,
           (size_t)network->order * sizeof(float));
    for (int64_t k = 0; k + 1 < network->order; k++)
        int8_predict_on(&its, block->rebuilt[t + k]);
    return its;
}

// Rows of some tables (n, Q, row_bytes), one of each.
GRU_INLINE void int8_find_rows(const int8_t *tables, int64_t row_bytes, int64_t n_classes,
                               const int64_t *codes, int64_t n, const int8_t **rows) {
    for (int64_t k = 0; k < n; k++)
        rows[k] = tables + (k * n_classes + codes[k]) * row_bytes;
}

// The rows of a step's codes are anywhere in the tables, and what a code needs is known no sooner: a quad's lines are
// asked for while the gates of the one before are computed.
GRU_INLINE void int8_fetch_rows(const int8_t *const *rows, int64_t n_rows, int64_t quad, int64_t n_quads) {
    for (int64_t k = 0; k < n_rows && quad >= 0 && quad < n_quads; k++)
        for (int gate = 0; gate < 3; gate++)
            __builtin_prefetch(rows[k] + (3 * quad + gate) * QUAD_UNITS);
}

// A step: the gates, the new state, and what that and the frame give the readouts. The products are ready.
GRU_INLINE void int8_step(const struct gru_int8_network *network, const struct gru_int8_room *room,
                          const int8_t *const *rows, int64_t n_rows, bool forwards) {
    const int64_t n_quads = int8_quads(network->gru_size), first = forwards ? 0 : n_quads - 1,
                  step = forwards ? 1 : -1;
    const int32_t *before = room->readout_starts;
    struct int8_gates gates;
    int8_fetch_rows(rows, n_rows, first, n_quads);
    int8_fetch_rows(rows, n_rows, first + step, n_quads);
    int8_step_gates(network, room, rows, n_rows, true, first, false, 0, &gates);
    for (int64_t k = 1; k < n_quads; k++) {
        const int64_t quad = first + k * step;
        int8_fetch_rows(rows, n_rows, quad + step, n_quads);
        int8_step_gates(network, room, rows, n_rows, true, quad, true, quad - step, &gates);
        int8_read_quad(network, room, quad - step, before);
        before = room->readout_sums;
    }
    const int64_t last = first + (n_quads - 1) * step;
    int8_step_gates(network, room, rows, n_rows, false, 0, true, last, &gates);
    int8_read_quad(network, room, last, before);
}

// Draws the code of sample t, of frame f, from its y, or takes the one that is given; see draw.h and, for voiced frames,
// shaping.h. Sets the probability of the code.
GRU_INLINE int64_t int8_draw(const struct gru_int8_network *network, const struct gru_int8_room *room,
                             const struct gru_block *block, int64_t f, int64_t t, struct int8_ahead *ahead,
                             float *probability) {
    const struct gru_shaping *shaping = &block->shaping;
    const bool is_voiced = block->lags[f] > 0;
    const float temperature = is_voiced ? shaping->voiced_temperature : block->temperature;
    const float to_base_2 = 1.44269504f / temperature, tail_cut = block->tail_cut;
    const int64_t given = block->n_forced ? block->forced[t] : -1;
    int64_t code = 0, first_subtree = 0;
    float uniform = block->uniforms[t], mean = 0.0f;
    *probability = 1.0f;
    for (int64_t left = network->bits; left > 0; left -= SUBTREE_BITS) {
        const int64_t subtree = first_subtree + code, depth = left < SUBTREE_BITS ? left : SUBTREE_BITS;
        const f32x16 units = load_f32x16(network->tree_units + subtree * SUBTREE_NODES) * to_base_2;
        const f32x16 bias = load_f32x16(network->tree_bias + subtree * SUBTREE_NODES) * to_base_2;
        const f32x16 logits = to_float(int8_sum_nodes(network, room, subtree)) * units + bias;
        int8_fill_pause(network, room, ahead);
        int32_t leaf = -1;
        if (given >= 0) // a subtree of fewer levels has its leaves where the missing ones all go left
            leaf = (int32_t)((given >> (left - depth) & ((1 << depth) - 1)) << (SUBTREE_BITS - depth));
        const struct drawn drawn = draw_leaf(draw_left_shares(logits, tail_cut), uniform, leaf);
        if (shaping->is_on && left == network->bits)
            mean = mean_of_groups(shaping, drawn.shares);
        code = (code << depth) + (drawn.leaf >> (SUBTREE_BITS - depth));
        first_subtree += (int64_t)1 << (network->bits - left);
        *probability *= drawn.share;
        uniform = drawn.uniform;
        int8_fill_pause(network, room, ahead);
    }
    if (!shaping->is_on)
        return code;
    const float shaped = shaped_amplitude(shaping, network->expansion[code], mean);
    return is_voiced ? int8_code_of(network, shaped) : code;
}

// The loop for a number of samples a step that the compiler knows.
GRU_INLINE void int8_generate(const struct gru_int8_network *network, const struct gru_block *block,
                              const struct gru_int8_room *given_room, const int64_t n_samples,
                              const bool predicts) {
    struct gru_int8_room room = *given_room;
    const int64_t order = network->order, n_classes = (int64_t)1 << network->bits;
    const int64_t n_step_tables = predicts ? 2 * n_samples + 2 : n_samples;
    const int64_t n_readout_tables = predicts ? n_samples + 3 : n_samples;
    const int64_t step_row_bytes = int8_quads(network->gru_size) * 3 * QUAD_UNITS;
    const int64_t readout_row_bytes = int8_quads(network->readout_size) * QUAD_UNITS;
    const int64_t n_subtrees = (network->bits + SUBTREE_BITS - 1) / SUBTREE_BITS; // of a draw
    struct int8_ahead ahead = {0, 1, n_samples * (2 + 2 * n_subtrees), 0, room.starts};

    int8_take_state(network, block->hidden, &room);
    int8_take_frame(network, block, 0, room.starts, room.readout_starts);
    for (int64_t pair = 0; pair < network->n_pairs; pair++)
        int8_multiply_pair(network, &room, room.starts, pair);

    float before = predicts ? block->rebuilt[order - 1] : 0.0f, audio_before = *block->last_audio;
    bool forwards = true;
    for (int64_t f = 0; f < block->n_frames; f++) {
        const float inverse_scale = 1.0f / block->signal_scale[f],
                    excitation_scale = block->excitation_scale[f];
        const int64_t lag = block->lags[f], end = (f + 1) * block->hop;
        struct int8_predictions predictions = int8_start_predictions(network, block, f, f * block->hop);
        for (int64_t first = f * block->hop; first < end; first += n_samples) {
            const bool is_last_step = first + n_samples == end && f + 1 < block->n_frames;
            for (int64_t i = 0; i < n_samples; i++) {
                const int64_t t = first + i;
                int64_t *e = block->codes + block->n_past + t, codes[INT8_MOST_TABLES];
                const int8_t *rows[INT8_MOST_TABLES];
                float prediction = 0.0f;
                for (int64_t k = 0; k < n_samples; k++)
                    codes[k] = e[-1 - k];
                if (predicts) {
                    prediction = predictions.sums[0][0] + predictions.coefficients[0][0] * before;
                    int8_predict_on(&predictions, before);
                    codes[n_samples] = int8_code_of(network, before * inverse_scale);
                    codes[n_samples + 1] = int8_code_of(network, prediction * inverse_scale);
                    for (int64_t k = 0; k < n_samples; k++)
                        codes[n_samples + 2 + k] = lag ? e[k - lag] : n_classes / 2;
                }
                if (i == 0) {
                    int8_find_rows(network->step_tables, step_row_bytes, n_classes, codes, n_step_tables,
                                   rows);
                    int8_step(network, &room, rows, n_step_tables, forwards);
                    if (is_last_step)
                        int8_take_frame(network, block, f + 1, room.next_starts, room.next_readout_starts);
                    forwards = !forwards;
                    ahead.starts = is_last_step ? room.next_starts : room.starts;
                    ahead.next = forwards ? 0 : network->n_pairs - 1;
                    ahead.step = forwards ? 1 : -1;
                }
                int8_fill_pause(network, &room, &ahead);
                int8_find_rows(network->readout_tables, readout_row_bytes, n_classes, codes, n_readout_tables,
                               rows);
                int8_read_out(network, &room, i, rows, n_readout_tables);
                int8_fill_pause(network, &room, &ahead);
                float probability;
                *e = int8_draw(network, &room, block, f, t, &ahead, &probability);
                if (block->n_forced)
                    block->probability[t] = probability;
                before = block->rebuilt[order + t] = prediction + excitation_scale * network->expansion[*e];
                block->audio[t] = audio_before = before + network->preemphasis * audio_before;
            }
        }
        int8_swap(&room.starts, &room.next_starts);
        int8_swap(&room.readout_starts, &room.next_readout_starts);
    }
    *block->last_audio = audio_before;
    for (int64_t i = 0; i < network->gru_size; i++)
        block->hidden[i] = (float)room.hidden[i] / (float)STATE_ONE;
}

// Generates the samples of a block, or weighs given codes.
GRU_API void gru_int8_generate(const struct gru_int8_network *network, const struct gru_block *block,
                               const struct gru_int8_room *room) {
    const int64_t n_samples = network->samples_per_step;
    if (n_samples == 1 && network->order)
        int8_generate(network, block, room, 1, true);
    else if (n_samples == 2 && network->order)
        int8_generate(network, block, room, 2, true);
    else
        int8_generate(network, block, room, n_samples, network->order > 0);
}

#endif
