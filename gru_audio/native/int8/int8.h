// What the int8 engine's files share: the network in memory, as gru_audio/synthesis/int8/packing.py makes it, and room.
// Shapes: see model.py; U units go together as follows, and sizes with a dash are rounded up to whole ones:
//
//     group   16    rows of a block of weights
//     pair    32    whose products go side by side; H' is in pairs, N of them
//     quad    64    whose table rows are read together; H'' and R'' are in quads
//
// Each row has a unit of its own: all that is summed for it, int32, is in that unit.
#ifndef GRU_INT8_H
#define GRU_INT8_H

#include "../loops/block.h"
#include "byte_products.h"

enum { GROUP_UNITS = 16, PAIR_UNITS = 32, QUAD_UNITS = 64, INT8_BLOCK_BYTES = 64, FOUR_COLUMNS = 4 };
enum { PAIR_FOURS = PAIR_UNITS / FOUR_COLUMNS }; // fours of columns in a pair's state
enum { INT8_MOST_TABLES = 10 };                  // 2 S + 2, S at most 4

// What a frame gives a unit's sums: with r and z all of their arguments, with n what the reset gate does not multiply, and
// what it does.
enum int8_start { RESET_START, UPDATE_START, NEW_START, INNER_START, INT8_STARTS };

// What a state of 1 is stored as: powers of two, so that multiplying by them and dividing lose nothing.
enum { STATE_ONE = 1 << 14, FULL_ACTIVATION = 64 };
// Adding it to a number that is small beside it rounds that to a whole number, which then stands in the lowest bits.
static const float ROUNDING = 12582912.0f; // 1.5 * 2^23

struct gru_int8_network {
    int64_t gru_size;         // H
    int64_t readout_size;     // R
    int64_t samples_per_step; // S
    int64_t order;            // P; at 0 there are the tables of e alone, the first S
    int64_t bits;             // of a code
    int64_t n_pairs;          // N
    int64_t n_readout_groups; // G = R' / 16
    int64_t n_reset_blocks;   // of 16 rows of the gate
    int64_t n_update_blocks;  //
    int64_t n_new_blocks;     //
    int64_t n_readout_blocks; // n, of 16 rows of the readout and a quad's columns, an even number; 16: all
    const int8_t *blocks;     // (N, those of r, z, n, 2, 64): each next block of both groups
    const uint16_t *columns;  // as the blocks: the first activation that each is multiplied by
    const float *gate_units; // (H'' / 64, 3, 64): of r, z, n, in steps of fixed-point numbers; see int8_gru.h
    const int16_t *own_weights; // (H'' / 64, 3, 64): the diagonal of W_hh of r, z, n, of a state in STATE_ONE
    const int8_t *step_tables;  // (n, Q, H'' / 64, 3, 64), the units of a quad interwoven; see int8_add_rows
    const float *gate_factors;  // (3, H'') one over the units
    const int32_t *gate_sums;   // (3, H'') of a row's weights
    const int32_t *new_bias;    // (H'') of the new gate's product
    const int8_t *readout_blocks;   // (H'' / 64, S, G, n, 64); where all are there by pairs, (N, S, G, 8, 64)
    const uint8_t *readout_columns; // as the blocks: the first of a quad's activations that each multiplies
    const float *readout_units;     // (R''), in steps of what the tree multiplies
    const int8_t *readout_tables;   // (n, Q, R''), interwoven as well
    const float *readout_factors;   // (R'')
    const int32_t *readout_sums;    // (S, R'')
    const int32_t *readout_bias;    // (S, R'')
    float readout_input_limit;      // of what conditioning adds, in size
    const int8_t *tree_blocks;      // (n_subtrees, 4 G, 64)
    const float *tree_units;        // (n_subtrees, 16)
    const float *tree_bias;         // (n_subtrees, 16)
    const float *edges;             // (Q,) of mu-law, the last one NaN
    const float *expansion;         // (Q,)
    const int16_t *first_codes;     // (n_buckets,); see int8_code_of
    int64_t n_buckets;              //
    int64_t bucket_bits;            //
    float preemphasis;
};

// Room for one stream, zeros at first, each array on a multiple of 64 bytes.
struct gru_int8_room {
    int16_t *hidden;     // (H'') the state, times STATE_ONE
    int8_t *activations; // (H'') bytes of the state
    int32_t *sums;       // (H'' / 64, 3, 64) of r, z and n: the products, on what the frame gives them
    int32_t *starts, *next_starts; // (H'' / 64, 4, 64) each: what this frame gives the sums, and the next
    int32_t *readout_starts, *next_readout_starts; // (S, R'') each
    int32_t *readout_sums;                         // (S, R'')
    int8_t *row; // (R'' / 16, 2, 16) the readout's values: bits 7 to 13, bits 0 to 6
};

GRU_INLINE f32x16 to_float(i32x16 x) {
    return __builtin_convertvector(x, f32x16);
}

GRU_INLINE int64_t int8_quads(int64_t n_units) {
    return (n_units + QUAD_UNITS - 1) / QUAD_UNITS;
}

#endif
