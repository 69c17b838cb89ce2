// The readout's likelihood of each sample's code in a tree over the code's bits, and its gradients, in one pass.
//
//     a = relu(hidden[t, b] + frames[b, f] + sum_i table[rows[b, t, i]])            frame f = t F / T, i < n
//     logit of node m = w_m a + b_m, the log odds of bit 1         -ln P(code) = sum over its path of -ln P(bit)
//
// Only the nodes on the path count, log2(Q) of Q - 1. They lie in heap order, and a path reads the code's
// bits from the highest on:
//
//               0                 after m comes 2m + 1 for bit 0, and 2m + 2 for bit 1
//           1       2
//         3   4   5   6
//
//     hidden  (K, B, S, R)  K = T / S      frames  (B F, R)      table  (N, R)      weight  (Q - 1, R)
//
// Each has a gradient of its own shape. A sample's numbers stay in the first cache until all is done with them.
#include <math.h>

#include "numbers.h"

struct gru_tree_loss {
    int64_t n_samples;    // T
    int64_t n_batch;      // B
    int64_t begin, end;   // the streams whose loss is taken
    int64_t n_frames;     // F
    int64_t n_rows;       // n
    int64_t stride;       // S
    int64_t size;         // R
    int64_t n_bits;       // log2(Q), at most 16
    int64_t are_bf16;     // whether hidden and its gradient hold bf16; float32 otherwise
    const int64_t *rows;  // (B, T, n)
    const int64_t *codes; // (B, T)
    const void *hidden;
    const float *frames;
    const float *table;
    const float *weight;
    const float *bias;  // (Q - 1,)
    void *grad_hidden;  // is written; NULL where no gradients are wanted, and then the others are not read
    float *grad_frames; // is added to, as all below
    float *grad_table;
    float *grad_weight;
    float *grad_bias;
    float *activation; // (R,) scratch
};

// Where a sample's rows are.
struct sample_rows {
    const int64_t *rows;   // (n,), of the table
    int64_t hidden, frame; // of the others
};

// A code's path: its nodes, and the loss's gradient of each one's logit.
struct tree_path {
    int64_t nodes[LANES];
    float slopes[LANES];
};

GRU_INLINE void activate_at(const struct gru_tree_loss *l, struct sample_rows at, int64_t j, int64_t n,
                            enum number kind) {
    f32x16 sum = load_numbers(l->hidden, at.hidden * l->size + j, n, kind) +
                 load_floats(l->frames, at.frame * l->size + j, n);
    for (int64_t i = 0; i < l->n_rows; i++)
        sum += load_floats(l->table, at.rows[i] * l->size + j, n);
    store_floats(l->activation, j, n, max_f32x16(all_f32x16(0.0f), sum));
}

// The logit of a node.
static float tree_logit(const struct gru_tree_loss *l, int64_t node) {
    const float *weight = l->weight + node * l->size;
    f32x16 sum = {0};
    int64_t j = 0;
    for (; j + LANES <= l->size; j += LANES)
        sum = multiply_add_f32x16(load_f32x16(l->activation + j), load_f32x16(weight + j), sum);
    if (j < l->size) {
        const int64_t n = l->size - j;
        sum = multiply_add_f32x16(load_floats(l->activation, j, n), load_floats(weight, j, n), sum);
    }
    return l->bias[node] + sum_f32x16(sum);
}

// -ln P(code) from the activation, and the path that led there; slopes are `share` times the gradients.
//
// With e = exp(-|logit|), -ln P(bit) is ln(1 + e), plus |logit| where the bit is the unlikely one. The
// logarithm is taken of the product, which is at most Q.
static double follow_path(const struct gru_tree_loss *l, int64_t code, float share, struct tree_path *path) {
    float logits[LANES] = {0}, ones[LANES] = {0};
    int64_t node = 0;
    for (int64_t i = 0; i < l->n_bits; i++) {
        const int64_t bit = code >> (l->n_bits - 1 - i) & 1;
        path->nodes[i] = node;
        logits[i] = tree_logit(l, node);
        ones[i] = (float)bit;
        node = 2 * node + 1 + (int64_t)bit;
    }
    const f32x16 x = load_f32x16(logits);
    const f32x16 e = exp_f32x16(min_f32x16(x, -x));
    const f32x16 likely = 1.0f / (1.0f + e);
    const f32x16 upper = select_f32x16(x < 0.0f, e * likely, likely);
    store_f32x16(path->slopes, share * (upper - load_f32x16(ones)));
    float factors[LANES];
    store_f32x16(factors, 1.0f + e);
    double product = 1.0, against = 0.0;
    for (int64_t i = 0; i < l->n_bits; i++) {
        const float unlikely = ones[i] > 0.0f ? -logits[i] : logits[i];
        product *= factors[i];
        against += unlikely < 0.0f ? 0.0f : unlikely; // NaN stays
    }
    return log(product) + against;
}

// The gradients of what R numbers of the activation came from, and of the weights that they met.
GRU_INLINE void back_at(const struct gru_tree_loss *l, const struct tree_path *path, struct sample_rows at,
                        int64_t j, int64_t n, enum number kind) {
    const f32x16 activation = load_floats(l->activation, j, n);
    f32x16 grad = {0};
    for (int64_t i = 0; i < l->n_bits; i++) {
        const int64_t place = path->nodes[i] * l->size + j;
        const f32x16 slope = all_f32x16(path->slopes[i]);
        grad = multiply_add_f32x16(slope, load_floats(l->weight, place, n), grad);
        store_floats(l->grad_weight, place, n,
                     multiply_add_f32x16(slope, activation, load_floats(l->grad_weight, place, n)));
    }
    grad = select_f32x16(activation > 0.0f, grad, all_f32x16(0.0f));
    store_numbers(l->grad_hidden, at.hidden * l->size + j, n, kind, grad);
    add_floats(l->grad_frames, at.frame * l->size + j, n, grad);
    for (int64_t i = 0; i < l->n_rows; i++)
        add_floats(l->grad_table, at.rows[i] * l->size + j, n, grad);
}

GRU_INLINE double sample_loss(const struct gru_tree_loss *l, int64_t code, float share, struct sample_rows at,
                              enum number kind) {
    struct tree_path path;
    int64_t j = 0;
    for (; j + LANES <= l->size; j += LANES)
        activate_at(l, at, j, LANES, kind);
    if (j < l->size)
        activate_at(l, at, j, l->size - j, kind);
    const double loss = follow_path(l, code, share, &path);
    if (l->grad_hidden == NULL)
        return loss;
    for (int64_t i = 0; i < l->n_bits; i++)
        l->grad_bias[path.nodes[i]] += path.slopes[i];
    for (j = 0; j + LANES <= l->size; j += LANES)
        back_at(l, &path, at, j, LANES, kind);
    if (j < l->size)
        back_at(l, &path, at, j, l->size - j, kind);
    return loss;
}

GRU_INLINE double mean_loss(const struct gru_tree_loss *l, enum number kind) {
    const double share = 1.0 / (double)(l->n_samples * l->n_batch);
    double total = 0.0;
    for (int64_t t = 0; t < l->n_samples; t++)
        for (int64_t b = l->begin; b < l->end; b++) {
            const int64_t sample = b * l->n_samples + t;
            const struct sample_rows at = {
                .rows = l->rows + sample * l->n_rows,
                .hidden = (t / l->stride * l->n_batch + b) * l->stride + t % l->stride,
                .frame = b * l->n_frames + t * l->n_frames / l->n_samples,
            };
            total += sample_loss(l, l->codes[sample], (float)share, at, kind);
        }
    return total * share;
}

// What some streams' samples add to the mean loss of all, in nats, and to its gradients.
GRU_API double gru_tree_loss(const struct gru_tree_loss *loss) {
    return loss->are_bf16 ? mean_loss(loss, BF16) : mean_loss(loss, FLOAT32);
}
