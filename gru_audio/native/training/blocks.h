// Products of the recurrent matrix, block by block: what is pruned costs nothing.
//
//     out[r, o] = sum_i inputs[r, i] matrix[o, i]           over the blocks that are kept, see gru_audio/network/blocks.py
//     total[o, i] = sum_n outputs[n, o] inputs[n, i]        the weights' gradient, in the same blocks
//
// A matrix lies in memory as its kept blocks of 64 numbers, line after line of blocks. A line has 16 outputs and its
// blocks 4 inputs; or, for the way back through the transpose, a line has 4 outputs and its blocks 16 inputs. How a
// block is laid out, and the sums, are those of its kind: float_blocks.h, pair_blocks.h or tiles.h.
#ifndef GRU_BLOCKS_H
#define GRU_BLOCKS_H

#include "bf16.h"
#include "numbers.h"
#include "../vectors.h"

enum { BLOCK_NUMBERS = 64, QUAD = 4, BAND = 16 };

enum block_kind { FLOAT_BLOCKS, PAIR_BLOCKS, TILE_BLOCKS };

struct gru_blocks {
    int64_t n_inputs;
    int64_t n_outputs;
    int64_t kind;          // a block_kind
    int64_t block_outputs; // 16; 4 for the way back without tiles
    int64_t block_inputs;  // 4; 16 for the way back; with tiles 16 or 32
    const int64_t *starts; // (n_outputs / block_outputs + 1,), each line's first block
    const int64_t *places; // (n_blocks,), the block's first input
    const void *weights; // (n_blocks, 64), or with tiles (n_blocks, block_inputs, 16), as the kind wants them
};

// The weights' gradient.
struct gru_outer_products {
    int64_t n_rows;        // N
    int64_t n_outputs;     // O
    int64_t n_inputs;      // I
    int64_t stride;        // from one row of outputs to the next
    int64_t kind;          // a block_kind
    int64_t block_inputs;  // of a block, which has 16 outputs: 4, or with tiles 16
    const int64_t *starts; // (O / 16 + 1,), each band's first block
    const int64_t *places; // (n_blocks,), the block's first input
    const void *outputs;   // (N, stride), float32 or bf16, as the kind wants them
    const void *inputs;    // (N, I), likewise
    uint32_t *of_outputs;  // scratch for a chunk of rows: (at least 32 and O, 128)
    uint32_t *of_inputs;   // likewise: (I, 128)
    float *sums;           // (n_blocks, block_inputs, 16), with pairs (n_blocks, block_inputs, 16, 2); zeros
    float *total;          // (O, I); blocks that are not kept stay as they are
};

// Sums that lie as (n_blocks, block_inputs, 16) to their places in the whole matrix.
static void put_sums(const struct gru_outer_products *p) {
    for (int64_t band = 0; band < p->n_outputs / BAND; band++)
        for (int64_t block = p->starts[band]; block < p->starts[band + 1]; block++)
            for (int64_t i = 0; i < p->block_inputs; i++)
                for (int64_t o = 0; o < BAND; o++)
                    p->total[(band * BAND + o) * p->n_inputs + p->places[block] + i] =
                        p->sums[(block * p->block_inputs + i) * BAND + o];
}

// out (n_rows, n_outputs) in float32 = inputs (n_rows, n_inputs) matrix^T. A row's sums do not depend on how many rows
// there are.
GRU_API void gru_multiply_blocks(const struct gru_blocks *m, const void *inputs, int64_t n_rows, float *out);

GRU_API void gru_sum_outer_products(const struct gru_outer_products *p);

#endif
