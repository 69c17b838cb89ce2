// Each product by the loops of its kind of blocks.
#include "blocks.h"
#include "float_blocks.h"
#include "pair_blocks.h"
#include "tiles.h"

GRU_API void gru_multiply_blocks(const struct gru_blocks *m, const void *inputs, int64_t n_rows, float *out) {
#if GRU_HAS_TILES
    if (m->kind == TILE_BLOCKS) {
        multiply_tiles(m, inputs, n_rows, out);
        return;
    }
#endif
    m->kind == FLOAT_BLOCKS ? multiply_floats(m, inputs, n_rows, out)
                            : multiply_pairs(m, inputs, n_rows, out);
}

GRU_API void gru_sum_outer_products(const struct gru_outer_products *p) {
#if GRU_HAS_TILES
    if (p->kind == TILE_BLOCKS) {
        sum_outer_tiles(p);
        return;
    }
#endif
    p->kind == FLOAT_BLOCKS ? sum_outer_floats(p) : sum_outer_pairs(p);
}
