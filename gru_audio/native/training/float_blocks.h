// The products of blocks.h in float32, where a processor has no pairs of bf16, or training wants all digits.
//
//     16 x 4   weights | outputs 0 .. 15 |  for each of the 4 inputs      sums  a vector a row, of 16 outputs
//     4 x 16   weights | inputs 0 .. 15 |   for each of the 4 outputs     sums  8 lanes a row and output, added up at the end
//
// As many rows go together as have their sums in registers while a block's weights are read once; a processor that
// begins two multiplications a cycle, and ends them four cycles later, is busy with eight sums.
#ifndef GRU_FLOAT_BLOCKS_H
#define GRU_FLOAT_BLOCKS_H

#include "blocks.h"

#if defined(__AVX512F__)
enum { FLOAT_ROWS = 8 }; // of 32 registers that hold 16 lanes
#elif defined(__AVX2__) || defined(__aarch64__)
enum { FLOAT_ROWS = 6 }; // two of 16 registers each, or four of 32
#else
enum { FLOAT_ROWS = 2 };
#endif
enum { FLOAT_ROWS_BACK = 3, FLOAT_CHUNK = 64, ROWS_IN_CACHE = 96 };

// Some rows' 16 outputs of one line.
GRU_INLINE void multiply_float_line(const struct gru_blocks *m, int64_t line, const float *inputs, float *out,
                                    int64_t n_rows) {
    f32x16 sums[FLOAT_ROWS > 4 ? FLOAT_ROWS : 4] = {0};
    for (int64_t block = m->starts[line]; block < m->starts[line + 1]; block++) {
        const float *weights = (const float *)m->weights + block * BLOCK_NUMBERS;
        const float *place = inputs + m->places[block];
#pragma clang loop unroll(full)
        for (int64_t i = 0; i < QUAD; i++) {
            const f32x16 of_input = load_f32x16(weights + BAND * i);
#pragma clang loop unroll(full)
            for (int64_t row = 0; row < n_rows; row++)
                sums[row] =
                    multiply_add_f32x16(all_f32x16(place[row * m->n_inputs + i]), of_input, sums[row]);
        }
    }
    for (int64_t row = 0; row < n_rows; row++)
        store_f32x16(out + row * m->n_outputs + BAND * line, sums[row]);
}

// The sums of each two neighbours, those of a before those of b in each half.
GRU_INLINE f32x8 add_neighbours(f32x8 a, f32x8 b) {
    return __builtin_shufflevector(a, b, 0, 2, 8, 10, 4, 6, 12, 14) +
           __builtin_shufflevector(a, b, 1, 3, 9, 11, 5, 7, 13, 15);
}

// Some rows' 4 outputs of one line of the transpose.
GRU_INLINE void multiply_float_line_back(const struct gru_blocks *m, int64_t line, const float *inputs,
                                         float *out, int64_t n_rows) {
    f32x8 sums[FLOAT_ROWS_BACK][QUAD] = {0};
    for (int64_t block = m->starts[line]; block < m->starts[line + 1]; block++) {
        const float *weights = (const float *)m->weights + block * BLOCK_NUMBERS;
        const float *place = inputs + m->places[block];
#pragma clang loop unroll(full)
        for (int64_t half = 0; half < BAND; half += BAND / 2) {
            f32x8 of_row[FLOAT_ROWS_BACK];
            for (int64_t row = 0; row < n_rows; row++)
                of_row[row] = load_f32x8(place + row * m->n_inputs + half);
#pragma clang loop unroll(full)
            for (int64_t o = 0; o < QUAD; o++) {
                const f32x8 of_output = load_f32x8(weights + BAND * o + half);
#pragma clang loop unroll(full)
                for (int64_t row = 0; row < n_rows; row++)
                    sums[row][o] = GRU_MULTIPLY_ADD(of_row[row], of_output, sums[row][o]);
            }
        }
    }
    for (int64_t row = 0; row < n_rows; row++) {
        const f32x8 both = add_neighbours(add_neighbours(sums[row][0], sums[row][1]),
                                          add_neighbours(sums[row][2], sums[row][3]));
        store_f32x4(out + row * m->n_outputs + QUAD * line, both.lo + both.hi);
    }
}

// All lines' outputs of rows that are few enough to stay in the second cache.
static void multiply_float_rows(const struct gru_blocks *m, const float *inputs, int64_t n_rows, float *out) {
    const int64_t n_lines = m->n_outputs / m->block_outputs;
    for (int64_t line = 0; line < n_lines; line++)
        for (int64_t row = 0, n; row < n_rows; row += n) {
            const int64_t left = n_rows - row;
            const float *from = inputs + row * m->n_inputs;
            float *to = out + row * m->n_outputs;
            if (m->block_outputs == QUAD) {
                n = left >= FLOAT_ROWS_BACK ? FLOAT_ROWS_BACK : 1;
                n > 1 ? multiply_float_line_back(m, line, from, to, FLOAT_ROWS_BACK)
                      : multiply_float_line_back(m, line, from, to, 1);
            } else {
                n = left >= FLOAT_ROWS ? FLOAT_ROWS : left >= 4 ? 4 : left >= 2 ? 2 : 1;
                n == FLOAT_ROWS ? multiply_float_line(m, line, from, to, FLOAT_ROWS)
                : n == 4        ? multiply_float_line(m, line, from, to, 4)
                : n == 2        ? multiply_float_line(m, line, from, to, 2)
                                : multiply_float_line(m, line, from, to, 1);
            }
        }
}

// What gru_multiply_blocks does.
static void multiply_floats(const struct gru_blocks *m, const float *inputs, int64_t n_rows, float *out) {
    for (int64_t row = 0; row < n_rows; row += ROWS_IN_CACHE) {
        const int64_t n = n_rows - row < ROWS_IN_CACHE ? n_rows - row : ROWS_IN_CACHE;
        multiply_float_rows(m, inputs + row * m->n_inputs, n, out + row * m->n_outputs);
    }
}

// To a block's sums (4, 16) is added what a chunk gives: its rows of 16 outputs and of 4 inputs.
GRU_INLINE void add_outer_floats(const float *outputs, const float *inputs, float *of_block) {
    f32x16 sums[QUAD];
    for (int64_t i = 0; i < QUAD; i++)
        sums[i] = load_f32x16(of_block + BAND * i);
    for (int64_t row = 0; row < FLOAT_CHUNK; row++) {
        const f32x16 of_outputs = load_f32x16(outputs + BAND * row);
#pragma clang loop unroll(full)
        for (int64_t i = 0; i < QUAD; i++)
            sums[i] = multiply_add_f32x16(all_f32x16(inputs[QUAD * row + i]), of_outputs, sums[i]);
    }
    for (int64_t i = 0; i < QUAD; i++)
        store_f32x16(of_block + BAND * i, sums[i]);
}

// A chunk of rows, 0 beyond the last, cut into columns that lie together: (n_columns / width, 64, width).
GRU_INLINE void cut_rows(const float *rows, int64_t n_rows, int64_t stride, int64_t n_columns, int64_t width,
                         float *cut) {
    const size_t bytes = (size_t)width * sizeof *cut;
    for (int64_t row = 0; row < FLOAT_CHUNK; row++)
        for (int64_t column = 0; column < n_columns; column += width) {
            float *to = cut + column * FLOAT_CHUNK + row * width;
            row < n_rows ? memcpy(to, rows + row * stride + column, bytes) : memset(to, 0, bytes);
        }
}

// What gru_sum_outer_products does.
static void sum_outer_floats(const struct gru_outer_products *p) {
    const float *all_outputs = p->outputs, *all_inputs = p->inputs;
    float *outputs = (float *)p->of_outputs, *inputs = (float *)p->of_inputs;
    for (int64_t row = 0; row < p->n_rows; row += FLOAT_CHUNK) {
        const int64_t left = p->n_rows - row;
        cut_rows(all_inputs + row * p->n_inputs, left, p->n_inputs, p->n_inputs, QUAD, inputs);
        for (int64_t band = 0; band < p->n_outputs / BAND; band++) {
            cut_rows(all_outputs + row * p->stride + BAND * band, left, p->stride, BAND, BAND, outputs);
            for (int64_t block = p->starts[band]; block < p->starts[band + 1]; block++)
                add_outer_floats(outputs, inputs + p->places[block] * FLOAT_CHUNK,
                                 p->sums + block * BLOCK_NUMBERS);
        }
    }
    put_sums(p);
}

#endif
