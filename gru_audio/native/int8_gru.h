// The recurrent layer in bytes: sums of products and table rows, and from them the gates and the next state.
//
//     r = sigmoid(sum_r + d_r h)      z = sigmoid(sum_z + d_z h)      d: the diagonal of W_hh, in float32
//     n = tanh(sum_n + r (sum_inner + d_n h))
//     h' = n + z (h - n)
//
// W_hh is sparse: of each 16 rows only some blocks of 4 columns are left, as many for every 16 rows of a gate. The
// blocks of two groups lie in turn, so that both are summed side by side:
//
//     blocks     | a0 | b0 | a1 | b1 | a2 | b2 | ...        64 bytes each; a: the pair's first group, b: its second
//     columns    |  8 |  0 | 40 |  4 | 64 | 88 | ...        of the state's bytes
#ifndef GRU_INT8_GRU_H
#define GRU_INT8_GRU_H

#include "int8.h"

// What stands in for an activation of 1 where a table's row is added: a one-hot input times its weight.
enum { TABLE_FACTOR = 0x7F7F7F7F };

// Bytes of a and b in turn, from the lower or the upper half of every 16; then pairs of bytes in the same way.
GRU_INLINE i8x64 int8_weave_lower(i8x64 a, i8x64 b) {
    return __builtin_shufflevector(a, b, 0, 64, 1, 65, 2, 66, 3, 67, 4, 68, 5, 69, 6, 70, 7, 71,       //
                                   16, 80, 17, 81, 18, 82, 19, 83, 20, 84, 21, 85, 22, 86, 23, 87,     //
                                   32, 96, 33, 97, 34, 98, 35, 99, 36, 100, 37, 101, 38, 102, 39, 103, //
                                   48, 112, 49, 113, 50, 114, 51, 115, 52, 116, 53, 117, 54, 118, 55, 119);
}
GRU_INLINE i8x64 int8_weave_upper(i8x64 a, i8x64 b) {
    return __builtin_shufflevector(a, b, 8, 72, 9, 73, 10, 74, 11, 75, 12, 76, 13, 77, 14, 78, 15, 79,     //
                                   24, 88, 25, 89, 26, 90, 27, 91, 28, 92, 29, 93, 30, 94, 31, 95,         //
                                   40, 104, 41, 105, 42, 106, 43, 107, 44, 108, 45, 109, 46, 110, 47, 111, //
                                   56, 120, 57, 121, 58, 122, 59, 123, 60, 124, 61, 125, 62, 126, 63, 127);
}
GRU_INLINE i8x64 int8_weave_lower_pairs(i8x64 a, i8x64 b) {
    return (i8x64)__builtin_shufflevector((i16x32)a, (i16x32)b, 0, 32, 1, 33, 2, 34, 3, 35, 8, 40, 9, 41, 10,
                                          42, 11, 43, 16, 48, 17, 49, 18, 50, 19, 51, 24, 56, 25, 57, 26, 58,
                                          27, 59);
}
GRU_INLINE i8x64 int8_weave_upper_pairs(i8x64 a, i8x64 b) {
    return (i8x64)__builtin_shufflevector((i16x32)a, (i16x32)b, 4, 36, 5, 37, 6, 38, 7, 39, 12, 44, 13, 45,
                                          14, 46, 15, 47, 20, 52, 21, 53, 22, 54, 23, 55, 28, 60, 29, 61, 30,
                                          62, 31, 63);
}

// Adds 127 times the rows of some tables, from byte `at` on, to the sums of a quad. Four rows go together: woven into
// one another, their bytes for 16 units are a block, and a product with four activations of 127 sums them up.
//
//     a row's 64 bytes      | u0-3 u16-19 u32-35 u48-51 | u4-7 u20-23 .. | u8-11 .. | u12-15 .. |
//     four rows, woven      | a0 b0 c0 d0 | a1 b1 c1 d1 | ... | aF bF cF dF |      and so on for u16-31 ..
GRU_INLINE void int8_add_rows(i32x16 sums[4], const int8_t *const *rows, int64_t n_rows, int64_t at) {
    for (int64_t k = 0; k < n_rows; k += 4) {
        const i8x64 none = {0}, a = load_i8x64(rows[k] + at);
        const i8x64 b = k + 1 < n_rows ? load_i8x64(rows[k + 1] + at) : none;
        const i8x64 c = k + 2 < n_rows ? load_i8x64(rows[k + 2] + at) : none;
        const i8x64 d = k + 3 < n_rows ? load_i8x64(rows[k + 3] + at) : none;
        const i8x64 ab = int8_weave_lower(a, b), cd = int8_weave_lower(c, d);
        sums[0] = add_product(sums[0], TABLE_FACTOR, int8_weave_lower_pairs(ab, cd));
        sums[1] = add_product(sums[1], TABLE_FACTOR, int8_weave_upper_pairs(ab, cd));
        const i8x64 ab_upper = int8_weave_upper(a, b), cd_upper = int8_weave_upper(c, d);
        sums[2] = add_product(sums[2], TABLE_FACTOR, int8_weave_lower_pairs(ab_upper, cd_upper));
        sums[3] = add_product(sums[3], TABLE_FACTOR, int8_weave_upper_pairs(ab_upper, cd_upper));
    }
}

// Adds the products of n blocks of each group of a pair. One load fetches four columns: a core can load fewer numbers
// at a time than it can multiply.
GRU_INLINE void int8_multiply_blocks(i32x16 sums[2], const int8_t *blocks, const uint16_t *columns, int64_t n,
                                     const int8_t *activations) {
    struct running_sums a = {sums[0], {0}}, b = {sums[1], {0}};
    int64_t i = 0;
    for (; i + 2 <= n; i += 2) {
        uint64_t four_columns;
        memcpy(&four_columns, columns + 2 * i, sizeof four_columns);
        const int8_t *block = blocks + 2 * i * INT8_BLOCK_BYTES;
        a = add_two_products(a, load_four(activations + (four_columns & 0xFFFF)), load_i8x64(block),
                             load_four(activations + (four_columns >> 32 & 0xFFFF)),
                             load_i8x64(block + 2 * INT8_BLOCK_BYTES));
        b = add_two_products(
            b, load_four(activations + (four_columns >> 16 & 0xFFFF)), load_i8x64(block + INT8_BLOCK_BYTES),
            load_four(activations + (four_columns >> 48)), load_i8x64(block + 3 * INT8_BLOCK_BYTES));
    }
    if (i < n) {
        const int8_t *block = blocks + 2 * i * INT8_BLOCK_BYTES;
        a.even = add_product(a.even, load_four(activations + columns[2 * i]), load_i8x64(block));
        b.even = add_product(b.even, load_four(activations + columns[2 * i + 1]),
                             load_i8x64(block + INT8_BLOCK_BYTES));
    }
    sums[0] = total(a);
    sums[1] = total(b);
}

// A pair's sums as far as they are known before the step's codes are: what the frame gives, and the products. Of the
// gates (0 r, 1 z, 2 n) from `first_gate` to before `last_gate`.
GRU_INLINE void int8_multiply_gates(const struct gru_int8_network *network, const struct gru_int8_room *room,
                                    const int32_t *starts, int64_t pair, int first_gate, int last_gate) {
    const int64_t counts[3] = {network->n_reset_blocks, network->n_update_blocks, network->n_new_blocks};
    int64_t first = 2 * pair * (counts[0] + counts[1] + counts[2]);
    for (int gate = 0; gate < first_gate; gate++)
        first += 2 * counts[gate];
    const int64_t place = pair / 2 * INT8_SUMS * QUAD_UNITS + pair % 2 * PAIR_UNITS;
    for (int gate = first_gate; gate < last_gate; gate++) {
        const int64_t at = place + (gate < 2 ? gate : INNER_SUM) * QUAD_UNITS;
        i32x16 sums[2] = {load_i32x16(starts + at), load_i32x16(starts + at + GROUP_UNITS)};
        int8_multiply_blocks(sums, network->blocks + first * INT8_BLOCK_BYTES, network->columns + first,
                             counts[gate], room->activations);
        store_i32x16(room->sums + at, sums[0]);
        store_i32x16(room->sums + at + GROUP_UNITS, sums[1]);
        first += 2 * counts[gate];
    }
    if (last_gate == 3)
        memcpy(room->sums + place + NEW_SUM * QUAD_UNITS, starts + place + NEW_SUM * QUAD_UNITS,
               PAIR_UNITS * sizeof *starts);
}

GRU_INLINE void int8_multiply_pair(const struct gru_int8_network *network, const struct gru_int8_room *room,
                                   const int32_t *starts, int64_t pair) {
    int8_multiply_gates(network, room, starts, pair, 0, 3);
}

// tanh(x) ~ top / bottom. With division, which every processor rounds alike, and without fused operations.
struct int8_ratio {
    f32x16 top, bottom;
};

// To 8e-4, and never beyond 1: for the reset gate and the new contents. The coefficients are fitted for the least
// error up to 4.3, beyond which it is flat.
GRU_INLINE struct int8_ratio int8_tanh(f32x16 x) {
    x = min_f32x16(max_f32x16(x, all_f32x16(-4.3f)), all_f32x16(4.3f));
    const f32x16 q = x * x;
    return (struct int8_ratio){x * (q + 12.549576f), (q * 0.076027712f + 5.1385057f) * q + 12.570543f};
}

// To 5e-5: for the update gate, as a state is held by how near it comes to 1.
GRU_INLINE struct int8_ratio int8_fine_tanh(f32x16 x) {
    x = min_f32x16(max_f32x16(x, all_f32x16(-5.0f)), all_f32x16(5.0f));
    const f32x16 q = x * x;
    return (struct int8_ratio){x * ((q + 155.31049f) * q + 1526.4843f),
                               (q * 19.297746f + 663.39249f) * q + 1526.7735f};
}

// The bytes of 16 units of the state.
GRU_INLINE void int8_store_activations(int8_t *to, f32x16 hidden) {
    const f32x16 rounded = hidden + (ROUNDING + (float)ACTIVATION_OFFSET);
    store_i8x16(to, __builtin_convertvector((i32x16)rounded, i8x16));
}

// A quad's gates between their two halves.
struct int8_gates {
    float new_input[QUAD_UNITS], update_top[QUAD_UNITS], update_bottom[QUAD_UNITS];
};

// The first half, for the 16 units from i on of a quad: r and z. sigmoid(x) = 1/2 + tanh(x / 2) / 2; the halving is in
// the constants, which also take the state's scale back:
//
//     constants (6, 64)     unit_r / 2 | unit_z / 2 | unit_n | d_r / 128 | d_z / 128 | d_n / 128
//
// The unit of sum_inner is twice that of sum_n, so that unit_n sum_inner is half of what the reset gate multiplies.
GRU_INLINE void int8_open_gates(const float *constants, const int32_t *sums, const float *hidden, int64_t i,
                                struct int8_gates *gates) {
    const f32x16 h = load_f32x16(hidden + i), unit_n = load_f32x16(constants + 2 * QUAD_UNITS + i);
    const f32x16 r = to_float(load_i32x16(sums + RESET_SUM * QUAD_UNITS + i)) * load_f32x16(constants + i) +
                     load_f32x16(constants + 3 * QUAD_UNITS + i) * h;
    const f32x16 z =
        to_float(load_i32x16(sums + UPDATE_SUM * QUAD_UNITS + i)) * load_f32x16(constants + QUAD_UNITS + i) +
        load_f32x16(constants + 4 * QUAD_UNITS + i) * h;
    const f32x16 half_inner = to_float(load_i32x16(sums + INNER_SUM * QUAD_UNITS + i)) * unit_n +
                              load_f32x16(constants + 5 * QUAD_UNITS + i) * h;
    const f32x16 outer = to_float(load_i32x16(sums + NEW_SUM * QUAD_UNITS + i)) * unit_n;
    const struct int8_ratio reset = int8_tanh(r), update = int8_fine_tanh(z);
    store_f32x16(gates->update_top + i, update.top);
    store_f32x16(gates->update_bottom + i, update.bottom);
    store_f32x16(gates->new_input + i, (outer + half_inner) + half_inner * (reset.top / reset.bottom));
}

// The second half: n and h'. With t / b for tanh of half the update gate's argument, and m / c for n,
//
//     h' = ((b + t) c h + (b - t) m) / (2 b c)
//
// The 2 is a little more: a state stays within -1 and 1 however its sums are rounded.
GRU_INLINE f32x16 int8_close_gates(const struct int8_gates *gates, int64_t i, f32x16 h) {
    const struct int8_ratio new = int8_tanh(load_f32x16(gates->new_input + i));
    const f32x16 top = load_f32x16(gates->update_top + i), bottom = load_f32x16(gates->update_bottom + i);
    const f32x16 sum = (bottom + top) * h * new.bottom + (bottom - top) * (new.top *STATE_SCALE);
    return sum / ((bottom * 2.000001f) * new.bottom);
}

// The gates and the new state of a quad, whose sums lack only the table rows. What one group computes waits for itself
// at every turn, so four go through each half one after the other; and products of another quad, if that is not
// negative, stand between them, as they need other parts of a processor.
GRU_INLINE void int8_step_quad(const struct gru_int8_network *network, const struct gru_int8_room *room,
                               const int8_t *const *rows, int64_t n_rows, int64_t quad,
                               int64_t quad_to_multiply) {
    int32_t *sums = room->sums + quad * INT8_SUMS * QUAD_UNITS;
    for (int64_t gate = RESET_SUM; gate <= NEW_SUM; gate++) {
        int32_t *its = sums + gate * QUAD_UNITS;
        i32x16 four[4];
        for (int k = 0; k < 4; k++)
            four[k] = load_i32x16(its + k * GROUP_UNITS);
        int8_add_rows(four, rows, n_rows, (3 * quad + gate) * QUAD_UNITS);
        for (int k = 0; k < 4; k++)
            store_i32x16(its + k * GROUP_UNITS, four[k]);
    }
    const float *constants = network->constants + quad * 6 * QUAD_UNITS;
    float *hidden = room->hidden + quad * QUAD_UNITS;
    struct int8_gates gates;
    for (int64_t k = 0; k < 2; k++) {
        const int64_t i = k * PAIR_UNITS, pair = 2 * quad_to_multiply + k;
        const bool multiplies = quad_to_multiply >= 0 && pair < network->n_pairs;
        int8_open_gates(constants, sums, hidden, i, &gates);
        if (multiplies)
            int8_multiply_gates(network, room, room->starts, pair, 0, 2);
        int8_open_gates(constants, sums, hidden, i + GROUP_UNITS, &gates);
        if (multiplies)
            int8_multiply_gates(network, room, room->starts, pair, 2, 3);
    }
    for (int64_t i = 0; i < QUAD_UNITS; i += GROUP_UNITS) {
        const f32x16 h = int8_close_gates(&gates, i, load_f32x16(hidden + i));
        store_f32x16(hidden + i, h);
        int8_store_activations(room->next_activations + quad * QUAD_UNITS + i, h);
    }
}

#endif
