// The whole core as one translation unit: compiled once for each instruction set, see hatch_build.py. Every
// file stands alone otherwise, and includes what it uses.
#include "processor.c"

#include "gru_audio.c"

#include "codec.c"
#include "pitch.c"
#include "loudness.c"
#include "float32_loop.c"
#include "int8_stages.c"
#include "block_products.c"
#include "gru_scan.c"
#include "rows.c"
#include "tree_loss.c"
#include "limits.c"
