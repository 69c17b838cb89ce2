// The GRU's gates over time, forward and back, for training on a CPU. With a, the gates that the inputs add,
// and p = W_hh h, the product of the state before (source: the documentation of torch.nn.GRU):
//
//     r = sigmoid(a_r + p_r + b_r)    z = sigmoid(a_z + p_z + b_z)    m = p_n + c
//     n = tanh(a_n + b_n + r m)       h' = n + z (h - n)
//
// The way back, from g, the gradient of h':
//
//     dz = g (h - n) z (1 - z)    dn = g (1 - z) (1 - n^2)    dm = dn r    dr = dm m (1 - r)
//     dh = g z + W_hh^T dp        dp = | dr | dz | dm |
//
// Every number passes through memory once, since memory is what these loops wait for. A row stands for a
// stream b at a step t, row t B + b, and one array serves three times:
//
//     gates    | a_r | a_z | a_n |   ->  | r | z | n |   ->  | dr | dz | dn |     3H numbers a row
//     inner          |  m  |         ->                      |    dm    |          H
//     hidden   (K + 1) B rows of h, the first B before the first step              H
#include "numbers.h"
#include "blocks.h"

// What a scan reads and writes; an array of "numbers" holds bf16 or float32.
struct gru_scan {
    int64_t n_steps;     // K
    int64_t n_batch;     // B
    int64_t size;        // H
    int64_t are_bf16;    // whether numbers are bf16
    void *gates;         // (K, B, 3H) numbers
    void *inner;         // (K, B, H) numbers; NULL where nothing will go back
    void *hidden;        // (K + 1, B, H) numbers
    const float *biases; // (4, H): b_r, b_z, b_n, c
    float *state;        // (B, H), h before and after, at full precision
};

// What the way back needs besides.
struct gru_scan_back {
    struct gru_scan scan;
    const void *above;  // (K, B, H) numbers, the loss's gradient of the hidden states
    void *grad_product; // (B, 3H) numbers, or of the streams that go together: the product's gradient
    float *grad_biases; // (4, H) to which the biases' gradients are added
    float *carried;     // (B, H), what of the gradient of h' came not through a product; then likewise of h
};

GRU_INLINE void forward_at(const struct gru_scan *s, int64_t row, int64_t stream, const void *product,
                           int64_t product_row, int64_t j, int64_t n, enum number kind,
                           enum number product_kind) {
    const int64_t size = s->size, at = 3 * size * row + j, of_product = 3 * size * product_row + j;
    const int64_t of_state = size * stream + j;
    const f32x16 p_r = load_numbers(product, of_product, n, product_kind);
    const f32x16 p_z = load_numbers(product, of_product + size, n, product_kind);
    const f32x16 p_n = load_numbers(product, of_product + 2 * size, n, product_kind);
    const f32x16 r = sigmoid_f32x16(load_numbers(s->gates, at, n, kind) + p_r + load_floats(s->biases, j, n));
    const f32x16 z = sigmoid_f32x16(load_numbers(s->gates, at + size, n, kind) + p_z +
                                    load_floats(s->biases, size + j, n));
    const f32x16 inner = p_n + load_floats(s->biases, 3 * size + j, n);
    const f32x16 from_inputs =
        load_numbers(s->gates, at + 2 * size, n, kind) + load_floats(s->biases, 2 * size + j, n);
    const f32x16 new = tanh_f32x16(multiply_add_f32x16(r, inner, from_inputs));
    const f32x16 h = multiply_add_f32x16(z, load_floats(s->state, of_state, n) - new, new);
    store_floats(s->state, of_state, n, h);
    store_numbers(s->hidden, size * (row + s->n_batch) + j, n, kind, h);
    if (s->inner == NULL)
        return;
    store_numbers(s->gates, at, n, kind, r);
    store_numbers(s->gates, at + size, n, kind, z);
    store_numbers(s->gates, at + 2 * size, n, kind, new);
    store_numbers(s->inner, size * row + j, n, kind, inner);
}

// n streams from `first` on.
GRU_INLINE void forward_rows(const struct gru_scan *s, int64_t step, int64_t first, int64_t n,
                             const void *product, enum number kind, enum number product_kind) {
    for (int64_t b = 0; b < n; b++) {
        const int64_t stream = first + b, row = step * s->n_batch + stream;
        int64_t j = 0;
        for (; j + LANES <= s->size; j += LANES)
            forward_at(s, row, stream, product, b, j, LANES, kind, product_kind);
        if (j < s->size)
            forward_at(s, row, stream, product, b, j, s->size - j, kind, product_kind);
    }
}

// One step of all streams, after its product (B, 3H), of numbers.
GRU_API void gru_gates_forward(const struct gru_scan *scan, int64_t step, const void *product) {
    if (scan->are_bf16)
        forward_rows(scan, step, 0, scan->n_batch, product, BF16, BF16);
    else
        forward_rows(scan, step, 0, scan->n_batch, product, FLOAT32, FLOAT32);
}

GRU_INLINE void backward_at(const struct gru_scan_back *back, int64_t row, int64_t stream,
                            int64_t product_row, const void *through, int64_t j, int64_t n, enum number kind,
                            enum number product_kind) {
    const struct gru_scan *s = &back->scan;
    const int64_t size = s->size, at = 3 * size * row + j, of_product = 3 * size * product_row + j;
    const int64_t of_state = size * stream + j, of_row = size * row + j;
    const f32x16 r = load_numbers(s->gates, at, n, kind);
    const f32x16 z = load_numbers(s->gates, at + size, n, kind);
    const f32x16 new = load_numbers(s->gates, at + 2 * size, n, kind);
    const f32x16 grad = load_floats(back->carried, of_state, n) + load_numbers(back->above, of_row, n, kind) +
                        load_numbers(through, of_state, n, product_kind);
    const f32x16 grad_z = grad * (load_numbers(s->hidden, of_row, n, kind) - new) * z * (1.0f - z);
    const f32x16 grad_new = grad * (1.0f - z) * (1.0f - new * new);
    const f32x16 grad_inner = grad_new * r;
    const f32x16 grad_r = grad_inner * load_numbers(s->inner, of_row, n, kind) * (1.0f - r);
    store_floats(back->carried, of_state, n, grad * z);
    store_numbers(s->gates, at, n, kind, grad_r);
    store_numbers(s->gates, at + size, n, kind, grad_z);
    store_numbers(s->gates, at + 2 * size, n, kind, grad_new);
    store_numbers(s->inner, of_row, n, kind, grad_inner);
    store_numbers(back->grad_product, of_product, n, kind, grad_r);
    store_numbers(back->grad_product, of_product + size, n, kind, grad_z);
    store_numbers(back->grad_product, of_product + 2 * size, n, kind, grad_inner);
    add_floats(back->grad_biases, j, n, grad_r);
    add_floats(back->grad_biases, size + j, n, grad_z);
    add_floats(back->grad_biases, 2 * size + j, n, grad_new);
    add_floats(back->grad_biases, 3 * size + j, n, grad_inner);
}

GRU_INLINE void backward_rows(const struct gru_scan_back *back, int64_t step, int64_t first, int64_t n,
                              const void *through, enum number kind, enum number product_kind) {
    const int64_t size = back->scan.size;
    for (int64_t b = 0; b < n; b++) {
        const int64_t stream = first + b, row = step * back->scan.n_batch + stream;
        int64_t j = 0;
        for (; j + LANES <= size; j += LANES)
            backward_at(back, row, stream, b, through, j, LANES, kind, product_kind);
        if (j < size)
            backward_at(back, row, stream, b, through, j, size - j, kind, product_kind);
    }
}

// One step of all streams back; `through` (B, H), of numbers, is the gradient of h' by way of the next step's product.
GRU_API void gru_gates_backward(const struct gru_scan_back *back, int64_t step, const void *through) {
    const int64_t n_batch = back->scan.n_batch;
    if (back->scan.are_bf16)
        backward_rows(back, step, 0, n_batch, through, BF16, BF16);
    else
        backward_rows(back, step, 0, n_batch, through, FLOAT32, FLOAT32);
}

// All steps of the streams from `begin` to `end`, with the products block by block, of `at_once` streams at a time;
// `product` (at_once, 3H) is scratch. The blocks' kind is one for the scan's numbers.
GRU_API void gru_scan_forward(const struct gru_scan *scan, const struct gru_blocks *blocks, int64_t begin,
                              int64_t end, int64_t at_once, float *product) {
    const int64_t n_batch = scan->n_batch;
    for (int64_t step = 0; step < scan->n_steps; step++)
        for (int64_t first = begin; first < end; first += at_once) {
            const int64_t n = end - first < at_once ? end - first : at_once;
            const int64_t before = (step * n_batch + first) * scan->size;
            if (scan->are_bf16) {
                gru_multiply_blocks(blocks, (const uint16_t *)scan->hidden + before, n, product);
                forward_rows(scan, step, first, n, product, BF16, FLOAT32);
            } else {
                gru_multiply_blocks(blocks, (const float *)scan->hidden + before, n, product);
                forward_rows(scan, step, first, n, product, FLOAT32, FLOAT32);
            }
        }
}

// All steps back, from the last on, of the streams from `begin` to `end`. `through` (B, H) is 0 before, and then the
// gradient of the first h by way of its product; `blocks` are those of the transpose.
GRU_API void gru_scan_backward(const struct gru_scan_back *back, const struct gru_blocks *blocks,
                               int64_t begin, int64_t end, int64_t at_once, float *through) {
    const int64_t size = back->scan.size;
    for (int64_t step = back->scan.n_steps - 1; step >= 0; step--)
        for (int64_t first = begin; first < end; first += at_once) {
            const int64_t n = end - first < at_once ? end - first : at_once;
            if (back->scan.are_bf16)
                backward_rows(back, step, first, n, through, BF16, FLOAT32);
            else
                backward_rows(back, step, first, n, through, FLOAT32, FLOAT32);
            gru_multiply_blocks(blocks, back->grad_product, n, through + first * size);
        }
}
