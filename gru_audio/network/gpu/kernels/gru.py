"""A GRU over all steps in one launch each way: W_hh stays on the chip, the state goes from block to block.

Each program has UNITS of the H recurrent units of ROWS of the B streams, and reads its slice of W_hh once:

    W_hh (3H, H)        | of units 0 .. U-1 | U .. 2U-1 | ..      a program keeps three slices (U, H): r, z and n

    forward, step t     hidden[t - 1] (ROWS, H)  x  slices (H, U)  ->  gates of its units  ->  hidden[t] (ROWS, U)
    backward, step t    gate gradients[t + 1] (ROWS, 3H)  x  slices (3H, U)  ->  those of its units at t (ROWS, 3 U)

    memory (K, B, ..)   | step 0 of streams 0 .. B-1 | step 1 of streams 0 .. B-1 | ..

What a step leaves is read by all programs of the same streams at the next one. They meet at a counter for those
streams: each adds 1 when its part is written, and waits until all have. So all programs must run at once: the launch is
cooperative. Should they not, none waits for ever: what they compute becomes NaN. Without a counter (`WAITS` off) a
launch makes one step; that is how Triton's interpreter runs it, which has one program after the other.

Sums and the state are in float32, products and all that is kept in bf16 or fp16. Source: the equations of torch.nn.GRU.
"""

import triton
import triton.language as tl

PATIENCE = tl.constexpr(1 << 24)
"""Looks at the counter in a launch, of which each takes about a microsecond; a step needs a few."""


@triton.jit
def tanh(x):
    return 2.0 * tl.sigmoid(2.0 * x) - 1.0


@triton.jit
def wait_for_all(counter, wanted, patience):
    """Until as many parts are written; returns how many more looks at the counter a launch has."""
    n_written = tl.atomic_add(counter, 0, sem="acquire", scope="gpu")
    while (n_written < wanted) & (patience > 0):
        n_written = tl.atomic_add(counter, 0, sem="acquire", scope="gpu")
        patience -= 1
    return patience


@triton.jit
def tell_all(counter):
    """Count a program's part as written."""
    tl.debug_barrier()  # by all its threads
    tl.atomic_add(counter, 1, sem="release", scope="gpu")


@triton.jit
def slice_of(matrix, first_row, row_stride, column_stride, unit, CHUNK: tl.constexpr, CHUNKS: tl.constexpr):
    """A program's slice (H, U) of a matrix, in parts (CHUNK, U)."""
    parts = ()
    for c in tl.static_range(CHUNKS):
        k = c * CHUNK + tl.arange(0, CHUNK)
        parts = parts + (
            tl.load(matrix + (first_row + k[:, None]) * row_stride + unit[None, :] * column_stride),
        )
    return parts


@triton.jit
def part_of(array, row, inside, stride, c: tl.constexpr, CHUNK: tl.constexpr):
    """Columns c CHUNK .. of rows of an array, past the first cache, which does not see what others write."""
    place = array + row[:, None] * stride + c * CHUNK + tl.arange(0, CHUNK)[None, :]
    return tl.load(place, mask=inside[:, None], other=0.0, cache_modifier=".cg")


@triton.jit
def first_parts(array, row, inside, stride, CHUNK: tl.constexpr, AHEAD: tl.constexpr):
    """The first of the parts (ROWS, CHUNK) of rows (ROWS, H): so many are on their way at any time."""
    parts = ()
    for c in tl.static_range(AHEAD):
        parts = parts + (part_of(array, row, inside, stride, c, CHUNK),)
    return parts


@triton.jit
def add_product(
    total, array, row, inside, stride, weights, CHUNK: tl.constexpr, CHUNKS: tl.constexpr, AHEAD: tl.constexpr
):
    """Rows (ROWS, H) of an array times a slice (H, U), added to a total (ROWS, U)."""
    parts = first_parts(array, row, inside, stride, CHUNK, AHEAD)
    for c in tl.static_range(CHUNKS):
        if c + AHEAD < CHUNKS:
            parts = parts + (part_of(array, row, inside, stride, c + AHEAD, CHUNK),)
        total = tl.dot(parts[c], weights[c], total)
    return total


@triton.jit
def gru_forward(
    gates, weight, inner_bias, hidden, inner, state, counters, n_batch, first, last,
    SIZE: tl.constexpr, ROWS: tl.constexpr, UNITS: tl.constexpr, CHUNK: tl.constexpr, AHEAD: tl.constexpr,
    SAVES: tl.constexpr, WAITS: tl.constexpr,
):  # fmt: skip
    """Steps first to last - 1.

    gates (K, B, 3H): what the inputs add; with `SAVES` they become r, z and n. hidden (K + 1, B, H): the one before
    each step, and the last. inner (K, B, H): W_hn h + b_hn, with `SAVES`. state (B, H) float32: in and out.
    """
    CHUNKS: tl.constexpr = SIZE // CHUNK
    unit = tl.program_id(0) * UNITS + tl.arange(0, UNITS)
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    many = tl.full([], 0, tl.int64) + n_batch  # times steps it may pass 2^31
    inside, counter = row < n_batch, counters + tl.program_id(1)
    kept = inside[:, None] & (unit[None, :] < SIZE)
    w_r = slice_of(weight, 0, 1, SIZE, unit, CHUNK, CHUNKS)
    w_z = slice_of(weight + SIZE * SIZE, 0, 1, SIZE, unit, CHUNK, CHUNKS)
    w_n = slice_of(weight + 2 * SIZE * SIZE, 0, 1, SIZE, unit, CHUNK, CHUNKS)
    bias = tl.load(inner_bias + unit)[None, :]
    own = row[:, None] * SIZE + unit[None, :]  # of (B, H)
    h = tl.load(state + own, mask=kept, other=0.0)
    patience = PATIENCE
    for t in range(first, last):
        at_gates = gates + t * many * 3 * SIZE + row[:, None] * 3 * SIZE + unit[None, :]
        r = tl.load(at_gates, mask=kept, other=0.0).to(tl.float32)
        z = tl.load(at_gates + SIZE, mask=kept, other=0.0).to(tl.float32)
        n = tl.load(at_gates + 2 * SIZE, mask=kept, other=0.0).to(tl.float32)
        if WAITS:
            patience = wait_for_all(counter, (t - first) * tl.num_programs(0), patience)
        source = hidden + t * many * SIZE
        before = first_parts(source, row, inside, SIZE, CHUNK, AHEAD)
        product = tl.zeros([ROWS, UNITS], tl.float32)
        for c in tl.static_range(CHUNKS):
            if c + AHEAD < CHUNKS:
                before = before + (part_of(source, row, inside, SIZE, c + AHEAD, CHUNK),)
            r = tl.dot(before[c], w_r[c], r)
            z = tl.dot(before[c], w_z[c], z)
            product = tl.dot(before[c], w_n[c], product)
        r, z, product = tl.sigmoid(r), tl.sigmoid(z), product + bias
        n = tanh(n + r * product)
        h = n + z * (h - n)
        if WAITS:
            h = tl.where(patience > 0, h, float("nan"))
        tl.store(hidden + (t + 1) * many * SIZE + own, h.to(hidden.dtype.element_ty), mask=kept)
        if WAITS:
            tell_all(counter)
        if SAVES:
            kind: tl.constexpr = gates.dtype.element_ty
            tl.store(at_gates, r.to(kind), mask=kept)
            tl.store(at_gates + SIZE, z.to(kind), mask=kept)
            tl.store(at_gates + 2 * SIZE, n.to(kind), mask=kept)
            tl.store(inner + t * many * SIZE + own, product.to(kind), mask=kept)
    tl.store(state + own, h, mask=kept)


@triton.jit
def gru_backward(
    gates, weight, hidden, inner, above, carried, counters, n_batch, n_steps, first, last,
    SIZE: tl.constexpr, ROWS: tl.constexpr, UNITS: tl.constexpr, CHUNK: tl.constexpr, AHEAD: tl.constexpr,
    WAITS: tl.constexpr,
):  # fmt: skip
    """Steps last - 1 to first, back.

    gates (K, B, 3H) and inner (K, B, H): what `gru_forward` saved; they become the gradients of the gates, and of
    W_hn h + b_hn. above (K, B, H): the gradient of each state from what reads it. carried (B, H) float32: what a
    state's gradient is by way of the next state's update gate; in and out.
    """
    CHUNKS: tl.constexpr = SIZE // CHUNK
    unit = tl.program_id(0) * UNITS + tl.arange(0, UNITS)
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    many = tl.full([], 0, tl.int64) + n_batch  # times steps it may pass 2^31
    inside, counter = row < n_batch, counters + tl.program_id(1)
    kept = inside[:, None] & (unit[None, :] < SIZE)
    w_r = slice_of(weight, 0, SIZE, 1, unit, CHUNK, CHUNKS)
    w_z = slice_of(weight, SIZE, SIZE, 1, unit, CHUNK, CHUNKS)
    w_n = slice_of(weight, 2 * SIZE, SIZE, 1, unit, CHUNK, CHUNKS)
    own = row[:, None] * SIZE + unit[None, :]
    kind: tl.constexpr = gates.dtype.element_ty
    by_update = tl.load(carried + own, mask=kept, other=0.0)
    patience = PATIENCE
    for back in range(last - first):
        t = last - 1 - back
        at_gates = gates + t * many * 3 * SIZE + row[:, None] * 3 * SIZE + unit[None, :]
        at = t * many * SIZE + own
        r = tl.load(at_gates, mask=kept, other=0.0).to(tl.float32)
        z = tl.load(at_gates + SIZE, mask=kept, other=0.0).to(tl.float32)
        n = tl.load(at_gates + 2 * SIZE, mask=kept, other=0.0).to(tl.float32)
        product = tl.load(inner + at, mask=kept, other=0.0).to(tl.float32)
        before = tl.load(hidden + at, mask=kept, other=0.0).to(tl.float32)
        grad = by_update + tl.load(above + at, mask=kept, other=0.0).to(tl.float32)
        if WAITS:
            patience = wait_for_all(counter, back * tl.num_programs(0), patience)
        if t + 1 < n_steps:
            next_gates = gates + (t + 1) * many * 3 * SIZE
            next_inner = inner + (t + 1) * many * SIZE
            grad = add_product(grad, next_gates, row, inside, 3 * SIZE, w_r, CHUNK, CHUNKS, AHEAD)
            grad = add_product(grad, next_gates + SIZE, row, inside, 3 * SIZE, w_z, CHUNK, CHUNKS, AHEAD)
            grad = add_product(grad, next_inner, row, inside, SIZE, w_n, CHUNK, CHUNKS, AHEAD)
        grad_n = grad * (1.0 - z) * (1.0 - n * n)
        grad_z = grad * (before - n) * z * (1.0 - z)
        grad_r = grad_n * product * r * (1.0 - r)
        if WAITS:
            grad_n = tl.where(patience > 0, grad_n, float("nan"))
        by_update = grad * z
        tl.store(at_gates, grad_r.to(kind), mask=kept)
        tl.store(at_gates + SIZE, grad_z.to(kind), mask=kept)
        tl.store(inner + at, (grad_n * r).to(kind), mask=kept)
        if WAITS:
            tell_all(counter)
        tl.store(at_gates + 2 * SIZE, grad_n.to(kind), mask=kept)
    tl.store(carried + own, by_update, mask=kept)
