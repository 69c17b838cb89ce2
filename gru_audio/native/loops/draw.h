// How a code is drawn from the tree's logits: the place to change it.
//
// A code's bits are yes/no questions, from the highest bit down. A subtree holds four of them: 15 nodes in heap order,
// whose 16 leaves are the bits' values. A node's logit is the log odds of bit 1, its right child.
//
//     node                 0                        P(leaf)     = the product of the four shares on the way
//                    1           2                  below(leaf) = the sum of P of all leaves to the left
//                 3     4     5     6
//                7 8   9 A   B C   D E              u in [0, 1) draws the last leaf with below <= u and P > 0
//     leaf      0 1 2 3 4 5 6 7 8 9 A B C D E F     and lies at (u - below) / P within it: that draws the next subtree
//
// All 16 leaves are weighed at once, so that nothing is guessed and little waits. Nothing is fused.
#ifndef GRU_DRAW_H
#define GRU_DRAW_H

#include "../vectors.h"

enum { SUBTREE_BITS = 4, SUBTREE_NODES = 16 };

// 2^x to 3e-7, for |x| under 2^22: the power of the nearest whole number is made from its bits, and limited to
// -120 .. 120; that of the rest is a polynomial.
GRU_INLINE f32x16 draw_power_of_two(f32x16 x) {
    const f32x16 rounding = all_f32x16(12582912.0f); // 1.5 * 2^23
    const f32x16 shifted = x + rounding, r = x - (shifted - rounding), r2 = r * r;
    const f32x16 power = (r * 0.69314718f + 1.0f) +
                         r2 * ((r * 0.055504109f + 0.24022651f) + r2 * (r * 0.0013333558f + 0.0096181291f));
    i32x16 k = (i32x16)shifted - (i32x16)rounding;
    k = __builtin_elementwise_min(__builtin_elementwise_max(k, all_i32x16(-120)), all_i32x16(120));
    return (f32x16)((i32x16)power + (k << 23));
}

// P of bit 0 at each node, from logits to base 2. Branches less likely than `tail_cut` are never taken.
GRU_INLINE f32x16 draw_left_shares(f32x16 logits, float tail_cut) {
    f32x16 left = 1.0f / (1.0f + draw_power_of_two(logits));
    if (tail_cut > 0.0f) {
        left = select_f32x16(left < tail_cut, all_f32x16(0.0f), left);
        left = select_f32x16(left > 1.0f - tail_cut, all_f32x16(1.0f), left);
    }
    return left;
}

typedef bool draw_bits __attribute__((ext_vector_type(SUBTREE_NODES)));

// The last lane where a comparison holds, 0 if it holds nowhere.
GRU_INLINE int32_t draw_last(i32x16 holds) {
    const draw_bits bits = __builtin_convertvector(holds, draw_bits);
    uint16_t number;
    memcpy(&number, &bits, sizeof number);
    return 31 - __builtin_clz(number | 1u);
}

struct drawn {
    int32_t leaf;
    float share;   // P(leaf)
    float uniform; // where in the leaf's interval the number lay, from 0 to 1
    f32x16 shares; // P of all leaves
};

// Draws a leaf of a subtree, or takes the one that is given if that is not negative.
GRU_INLINE struct drawn draw_leaf(f32x16 left, float uniform, int32_t given) {
    const f32x16 right = 1.0f - left, none = {0};
    // What each leaf's way has at the four levels: its own share, and what lies to the left of it.
    const f32x16 own0 =
        __builtin_shufflevector(left, right, 0, 0, 0, 0, 0, 0, 0, 0, 16, 16, 16, 16, 16, 16, 16, 16);
    const f32x16 own1 =
        __builtin_shufflevector(left, right, 1, 1, 1, 1, 17, 17, 17, 17, 2, 2, 2, 2, 18, 18, 18, 18);
    const f32x16 own2 =
        __builtin_shufflevector(left, right, 3, 3, 19, 19, 4, 4, 20, 20, 5, 5, 21, 21, 6, 6, 22, 22);
    const f32x16 own3 =
        __builtin_shufflevector(left, right, 7, 23, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30);
    const f32x16 left0 =
        __builtin_shufflevector(left, none, 16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0);
    const f32x16 left1 =
        __builtin_shufflevector(left, none, 16, 16, 16, 16, 1, 1, 1, 1, 16, 16, 16, 16, 2, 2, 2, 2);
    const f32x16 left2 =
        __builtin_shufflevector(left, none, 16, 16, 3, 3, 16, 16, 4, 4, 16, 16, 5, 5, 16, 16, 6, 6);
    const f32x16 left3 =
        __builtin_shufflevector(left, none, 16, 7, 16, 8, 16, 9, 16, 10, 16, 11, 16, 12, 16, 13, 16, 14);
    const f32x16 two = own0 * own1, three = two * own2, shares = three * own3;
    const f32x16 below = ((left0 + own0 * left1) + two * left2) + three * left3;
    const int32_t leaf = given < 0 ? draw_last((below <= uniform) & (shares > 0.0f)) : given;
    float belows[SUBTREE_NODES], all_shares[SUBTREE_NODES];
    store_f32x16(belows, below);
    store_f32x16(all_shares, shares);
    const float share = all_shares[leaf];
    return (struct drawn){leaf, share, (uniform - belows[leaf]) / share, shares};
}

#endif
