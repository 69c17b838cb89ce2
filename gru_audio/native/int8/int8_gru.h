// The recurrent layer in bytes: sums of products and table rows, and from them the gates and the next state.
//
//     r = sigmoid(sum_r + d_r h)      z = sigmoid(sum_z + d_z h)      d: the diagonal of W_hh, in 16 bits
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

#include "fixed.h"
#include "int8.h"

// What stands in for an activation of 1 where a table's row is added: a one-hot input times its weight.
enum { TABLE_FACTOR = 0x7F7F7F7F };
enum { INT8_LANES = 6 }; // pairs whose gates go side by side

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

// What a pair's sums are before the step's codes are known: what the frame gives, and the products of r, z and n.
GRU_INLINE void int8_multiply_pair(const struct gru_int8_network *network, const struct gru_int8_room *room,
                                   const int32_t *starts, int64_t pair) {
    const int64_t counts[3] = {network->n_reset_blocks, network->n_update_blocks, network->n_new_blocks};
    const int64_t quad = pair / 2, place = pair % 2 * PAIR_UNITS;
    int64_t first = 2 * pair * (counts[0] + counts[1] + counts[2]);
    for (int gate = 0; gate < 3; gate++) {
        const int32_t *from =
            starts + (INT8_STARTS * quad + (gate < 2 ? gate : INNER_START)) * QUAD_UNITS + place;
        int32_t *to = room->sums + (3 * quad + gate) * QUAD_UNITS + place;
        i32x16 sums[2] = {load_i32x16(from), load_i32x16(from + GROUP_UNITS)};
        int8_multiply_blocks(sums, network->blocks + first * INT8_BLOCK_BYTES, network->columns + first,
                             counts[gate], room->activations);
        store_i32x16(to, sums[0]);
        store_i32x16(to + GROUP_UNITS, sums[1]);
        first += 2 * counts[gate];
    }
}

// 1 / (1 + e^|x|), the flank that sigmoid has on both sides, of n pairs: in fixed-point numbers of one, under a half; x is
// in those of GATE_SPAN, 12, which packing.py scales everything to. To 4e-4, with
//
//     t = 1 - |x| / 12          (c0 + c1 t^2 + c2 t^4 + c3 t^6)^8            fitted for the least error
//
// -x is taken as ~x, one step beside it, so that the sign takes no branch. What one pair computes waits for itself at
// every turn, so all go side by side.
GRU_INLINE void int8_flanks(const i16x32 *x, int n, i16x32 *power) {
    static const int16_t c[] = {11169, 14456, 16547, -12124};
    i16x32 t2[INT8_LANES];
    for (int k = 0; k < n; k++) {
        const i16x32 t = x[k] ^ (x[k] >> 15) ^ 0x7FFF;
        t2[k] = multiply_fixed(t, t);
        power[k] = all_i16x32(c[3]);
    }
    for (int i = 2; i >= 0; i--)
        for (int k = 0; k < n; k++)
            power[k] = multiply_fixed(power[k], t2[k]) + c[i];
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < n; k++)
            power[k] = multiply_fixed(power[k], power[k]);
}

// sigmoid(x) in fixed-point numbers of one; 1 is never reached.
GRU_INLINE i16x32 int8_sigmoid(i16x32 x, i16x32 flank) {
    return flank ^ (~(x >> 15) & 0x7FFF);
}

// tanh(x / 2) = 2 sigmoid(x) - 1, where 1 is STATE_ONE.
GRU_INLINE i16x32 int8_tanh_of_half(i16x32 x, i16x32 flank) {
    return flank ^ (x >> 15) ^ (STATE_ONE - 1);
}

// The bytes of a pair's state.
GRU_INLINE void int8_store_activations(int8_t *to, i16x32 hidden) {
    const i16x32 rounded = multiply_fixed(hidden, all_i16x32(32768 / STATE_ONE * FULL_ACTIVATION));
    store_i8x32(to, __builtin_convertvector(rounded + ACTIVATION_OFFSET, i8x32));
}

// Sums of a pair times their units: fixed-point numbers of GATE_SPAN.
GRU_INLINE i16x32 int8_scale(const i32x16 sums[2], const float *units) {
    return narrow_to_fixed(to_float(sums[0]) * load_f32x16(units),
                           to_float(sums[1]) * load_f32x16(units + GROUP_UNITS));
}

// A quad's sums of a gate, with the table rows.
GRU_INLINE void int8_complete_sums(const int32_t *from, const int8_t *const *rows, int64_t n_rows, int64_t at,
                                   i32x16 sums[4]) {
    for (int k = 0; k < 4; k++)
        sums[k] = load_i32x16(from + k * GROUP_UNITS);
    int8_add_rows(sums, rows, n_rows, at);
}

// A quad's gates between their two halves, of its two pairs.
struct int8_gates {
    i16x32 update[2], twice_new[2]; // z, and twice what n is the tanh of
};

// The first half, r and z, of the quad `opened`, and the second half, n and h', of the quad `closed` before it. The
// compiler knows which of them are to be done.
GRU_INLINE void int8_step_gates(const struct gru_int8_network *network, const struct gru_int8_room *room,
                                const int8_t *const *rows, int64_t n_rows, bool opens, int64_t opened,
                                bool closes, int64_t closed, struct int8_gates *gates) {
    i16x32 x[INT8_LANES], flanks[INT8_LANES], half_inner[2], outer[2]; // r, z, r, z, n, n
    const float *units = network->gate_units + opened * 3 * QUAD_UNITS;
    const int16_t *own = network->own_weights + opened * 3 * QUAD_UNITS;
    const int32_t *products = room->sums + opened * 3 * QUAD_UNITS,
                  *starts = room->starts + opened * INT8_STARTS * QUAD_UNITS;
    for (int gate = 0; opens && gate < 3; gate++) {
        const int64_t at = gate * QUAD_UNITS;
        i32x16 sums[4];
        int8_complete_sums(gate < 2 ? products + at : starts + NEW_START * QUAD_UNITS, rows, n_rows,
                           opened * 3 * QUAD_UNITS + at, sums);
        for (int k = 0; k < 2; k++) {
            const int64_t place = at + k * PAIR_UNITS;
            const i16x32 own_part = multiply_fixed(
                load_i16x32(room->hidden + opened * QUAD_UNITS + k * PAIR_UNITS), load_i16x32(own + place));
            const i16x32 scaled = int8_scale(sums + 2 * k, units + place);
            if (gate < 2) {
                x[2 * k + gate] = add_fixed(scaled, own_part);
                continue;
            }
            // The unit of the product is twice that of the sum, so that this is half of what the reset gate multiplies.
            const i32x16 inner[2] = {load_i32x16(products + place),
                                     load_i32x16(products + place + GROUP_UNITS)};
            half_inner[k] = add_fixed(int8_scale(inner, units + place), own_part);
            outer[k] = scaled;
        }
    }
    for (int k = 0; closes && k < 2; k++)
        x[4 + k] = gates->twice_new[k];
    const int first = opens ? 0 : 4, last = closes ? 6 : 4;
    int8_flanks(x + first, last - first, flanks + first);
    for (int k = 0; closes && k < 2; k++) {
        const int64_t at = closed * QUAD_UNITS + k * PAIR_UNITS;
        const i16x32 h = load_i16x32(room->hidden + at), n = int8_tanh_of_half(x[4 + k], flanks[4 + k]);
        const i16x32 new_h = n + multiply_fixed(gates->update[k], h - n);
        store_i16x32(room->hidden + at, new_h);
        int8_store_activations(room->activations + at, new_h);
    }
    for (int k = 0; opens && k < 2; k++) {
        const i16x32 half = multiply_fixed(half_inner[k], int8_sigmoid(x[2 * k], flanks[2 * k]));
        const i16x32 new_input = add_fixed(add_fixed(outer[k], half), half);
        gates->twice_new[k] = add_fixed(new_input, new_input);
        gates->update[k] = int8_sigmoid(x[2 * k + 1], flanks[2 * k + 1]);
    }
}

#endif
