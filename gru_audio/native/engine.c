// The whole core as one translation unit: compiled once for each instruction set, see hatch_build.py. Every
// file stands alone otherwise, and includes what it uses.
#include "processor.c"

#include "gru_audio.c"

#include "signal/codec.c"
#include "signal/pitch.c"
#include "signal/loudness.c"
#include "loops/float32_loop.c"
#include "bench/int8_stages.c"
#include "training/block_products.c"
#include "training/gru_scan.c"
#include "training/rows.c"
#include "training/tree_loss.c"
#include "bench/limits.c"
