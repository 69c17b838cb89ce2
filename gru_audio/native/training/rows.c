// Sums of table rows, as a step's codes choose them, and the way back.
//
//     sums[k, b] = frames[b, f] + sum_i table[rows[b, k, i]]            frame f = k F / K, i < n
//
//     table   (N, W) | row 0 | row 1 | ..        rows  (B, K, n) numbers of table rows
//     frames  (B F, W), those of a stream one after the other
//     sums    (K B, W), those of a step one after the other
#include "numbers.h"

struct gru_rows {
    int64_t n_steps;         // K, a multiple of F
    int64_t n_batch;         // B
    int64_t n_frames;        // F
    int64_t n_rows;          // n
    int64_t width;           // W
    int64_t begin, end;      // the columns that are worked on
    int64_t sums_are_bf16;   // float32 otherwise
    int64_t tables_are_bf16; // those of gru_sum_rows, and then the sums are too; float32 otherwise
    const int64_t *rows;     // (B, K, n)
    void *table;             // (N, W), or its gradient
    void *frames;            // (B F, W), likewise
    void *sums;              // (K B, W), likewise
};

// Where a sum's rows are.
struct sum_rows {
    const int64_t *rows; // (n,), of the table
    int64_t frame, sum;
};

GRU_INLINE void sum_at(const struct gru_rows *r, struct sum_rows at, int64_t j, int64_t n,
                       enum number of_tables, enum number of_sums) {
    f32x16 sum = load_numbers(r->frames, at.frame * r->width + j, n, of_tables);
    for (int64_t i = 0; i < r->n_rows; i++)
        sum += load_numbers(r->table, at.rows[i] * r->width + j, n, of_tables);
    store_numbers(r->sums, at.sum * r->width + j, n, of_sums, sum);
}

GRU_INLINE void spread_at(const struct gru_rows *r, struct sum_rows at, int64_t j, int64_t n,
                          enum number of_sums) {
    const f32x16 grad = load_numbers(r->sums, at.sum * r->width + j, n, of_sums);
    add_floats(r->frames, at.frame * r->width + j, n, grad);
    for (int64_t i = 0; i < r->n_rows; i++)
        add_floats(r->table, at.rows[i] * r->width + j, n, grad);
}

GRU_INLINE void for_all_sums(const struct gru_rows *r, bool back, enum number of_tables,
                             enum number of_sums) {
    for (int64_t k = 0; k < r->n_steps; k++)
        for (int64_t b = 0; b < r->n_batch; b++) {
            const struct sum_rows at = {
                .rows = r->rows + (b * r->n_steps + k) * r->n_rows,
                .frame = b * r->n_frames + k * r->n_frames / r->n_steps,
                .sum = k * r->n_batch + b,
            };
            int64_t j = r->begin;
            for (; j + LANES <= r->end; j += LANES)
                back ? spread_at(r, at, j, LANES, of_sums) : sum_at(r, at, j, LANES, of_tables, of_sums);
            if (j < r->end)
                back ? spread_at(r, at, j, r->end - j, of_sums)
                     : sum_at(r, at, j, r->end - j, of_tables, of_sums);
        }
}

// Fills the sums, as far as its columns go.
GRU_API void gru_sum_rows(const struct gru_rows *r) {
    if (r->tables_are_bf16)
        for_all_sums(r, false, BF16, BF16);
    else if (r->sums_are_bf16)
        for_all_sums(r, false, FLOAT32, BF16);
    else
        for_all_sums(r, false, FLOAT32, FLOAT32);
}

// The way back: to the gradients of table and frames, in float32, are added those of the sums.
GRU_API void gru_spread_rows(const struct gru_rows *r) {
    r->sums_are_bf16 ? for_all_sums(r, true, FLOAT32, BF16) : for_all_sums(r, true, FLOAT32, FLOAT32);
}
