"""A GRU over all steps in one launch each way: W_hh stays on the chip, the state goes from block to block.

Each program has UNITS of the H recurrent units of ROWS of the B streams, and reads its slice of W_hh once:

    W_hh (3H, H)        | of units 0 .. U-1 | U .. 2U-1 | ..      a program keeps three slices (U, H): r, z and n

    forward, step t     hidden[t - 1] (ROWS, H)  x  slices (H, U)  ->  gates of its units  ->  hidden[t] (ROWS, U)
    backward, step t    gate gradients[t + 1] (ROWS, 3H)  x  slices (3H, U)  ->  those of its units at t (ROWS, 3 U)

    memory (K, B, ..)   | step 0 of streams 0 .. B-1 | step 1 of streams 0 .. B-1 | ..

What a step leaves is read by all programs of the same streams at the next one, so that all must run at once: the
launch is cooperative. They meet in one of two ways:

    at a counter        each adds 1 when its part is written, and waits until all have; in between lie two fences.
    in the data         what is to be written holds `UNWRITTEN` before, a NaN that no number is rounded to. A program
                        reads until nothing of it is that: at once all, or (`FIRSTS`) first one pair of each part, which
                        asks less of the memory. No fence, no order, no counter: each pair tells for itself.

Should not all run at once, none waits for ever: what they compute becomes NaN. Without waiting (`WAITS` off) a launch
makes one step; that is how Triton's interpreter runs it, which has one program after the other.

Inputs of a step are fetched a step ahead. A product is several sums of parts, as each waits for the one before it.
Sums and the state are in float32, products and all that is kept in bf16 or fp16. Source: the equations of torch.nn.GRU.
"""

import triton
import triton.language as tl

LOOKS = tl.constexpr(1 << 22)
"""At what others write, in a launch, of which each takes about a microsecond; a step needs a few."""
UNWRITTEN = tl.constexpr(-1)
"""The 32 bits of two numbers that were not written yet."""


@triton.jit
def tanh(x):
    return 2.0 * tl.sigmoid(2.0 * x) - 1.0


@triton.jit
def wait_for_all(counter, wanted, looks):
    """Until as many parts are written; returns how many more looks a launch has."""
    n_written = tl.atomic_add(counter, 0, sem="acquire", scope="gpu")
    while (n_written < wanted) & (looks > 0):
        n_written = tl.atomic_add(counter, 0, sem="acquire", scope="gpu")
        looks -= 1
    return looks


@triton.jit
def tell_all(counter):
    """Count a program's part as written."""
    tl.debug_barrier()  # by all its threads
    tl.atomic_add(counter, 1, sem="release", scope="gpu")


@triton.jit
def wait_for_firsts(row, looks, UNITS: tl.constexpr, PROGRAMS: tl.constexpr):
    """Until the first pair of each program's part of a row is written; returns how many more looks there are.

    Each warp looks for itself, and may come to another number.
    """
    program = tl.arange(0, triton.next_power_of_2(PROGRAMS))
    place, known = row + program * (UNITS // 2), program < PROGRAMS
    missing = any_unwritten((tl.load(place, mask=known, other=0, volatile=True),))
    while (missing > 0) & (looks > 0):
        missing = any_unwritten((tl.load(place, mask=known, other=0, volatile=True),))
        looks -= 1
    return looks


@triton.jit
def any_unwritten(parts):
    """Whether any pair of some parts was not written yet, 1 or 0."""
    found = parts[0] == UNWRITTEN
    for i in tl.static_range(1, len(parts)):
        found = found | (parts[i] == UNWRITTEN)
    return tl.max(found.to(tl.int32))


@triton.jit
def slice_of(matrix, row_stride, column_stride, unit, CHUNK: tl.constexpr, CHUNKS: tl.constexpr):
    """A program's slice (H, U) of a matrix, in parts: even and odd rows (CHUNK / 2, U) of CHUNK in turns."""
    parts = ()
    for c in tl.static_range(CHUNKS):
        for is_odd in tl.static_range(2):
            k = c * CHUNK + is_odd + 2 * tl.arange(0, CHUNK // 2)
            parts = parts + (tl.load(matrix + k[:, None] * row_stride + unit[None, :] * column_stride),)
    return parts


@triton.jit
def pairs_of(
    wide, n_wide: tl.constexpr, narrow, row, inside,
    SIZE: tl.constexpr, CHUNK: tl.constexpr, FIRST: tl.constexpr, AHEAD: tl.constexpr,
):  # fmt: skip
    """AHEAD parts from FIRST on, (ROWS, CHUNK / 2) pairs each, of rows of `wide` (B, 3H), then of `narrow` (B, H).

    They are on their way at once, past the first cache, which does not see what others write.
    """
    parts = ()
    for c in tl.static_range(FIRST, min(FIRST + AHEAD, n_wide + SIZE // CHUNK)):
        if c < n_wide:
            place = wide + row * (3 * SIZE // 2) + c * (CHUNK // 2)
        else:
            place = narrow + row * (SIZE // 2) + (c - n_wide) * (CHUNK // 2)
        place = place[:, None] + tl.arange(0, CHUNK // 2)[None, :]
        parts = parts + (tl.load(place, mask=inside[:, None], other=0, volatile=True),)
    return parts


@triton.jit
def halves_of(pairs, kind: tl.constexpr):
    """The even numbers and the odd ones of pairs: a sum over columns may have any order."""
    even, odd = (pairs & 0xFFFF).to(tl.uint16), (pairs >> 16).to(tl.uint16)
    return even.to(kind, bitcast=True), odd.to(kind, bitcast=True)


@triton.jit
def add_product(sums, part, weights, start, SUMS: tl.constexpr):
    """Sums, each of a part in turns, with one part's product more."""
    if len(sums) < SUMS:  # noqa: SIM108
        added = sums + (tl.dot(part, weights, start),)
    else:
        added = sums[1:] + (tl.dot(part, weights, sums[0]),)
    return added


@triton.jit
def total_of(sums):
    total = sums[0]
    for i in tl.static_range(1, len(sums)):
        total += sums[i]
    return total


@triton.jit
def as_pairs(array):
    return array.to(tl.pointer_type(tl.int32), bitcast=True)


@triton.jit
def gates_of(place, kept, SIZE: tl.constexpr):
    """A program's r, z and n, of one step."""
    r = tl.load(place, mask=kept, other=0.0)
    return r, tl.load(place + SIZE, mask=kept, other=0.0), tl.load(place + 2 * SIZE, mask=kept, other=0.0)


# Not compiled anew for numbers that are 1, or multiples of 16.
@triton.jit(do_not_specialize=["n_batch", "first", "last"])
def gru_forward(  # noqa: PLR0915
    gates, weight, inner_bias, hidden, inner, state, counters, n_batch, first, last,
    SIZE: tl.constexpr, ROWS: tl.constexpr, UNITS: tl.constexpr, CHUNK: tl.constexpr, AHEAD: tl.constexpr,
    SUMS: tl.constexpr, SAVES: tl.constexpr, WAITS: tl.constexpr, IN_DATA: tl.constexpr, FIRSTS: tl.constexpr,
):  # fmt: skip
    """Steps first to last - 1.

    gates (K, B, 3H): what the inputs add; with `SAVES` they become r, z and n. hidden (K + 1, B, H): the one before
    each step, and the last. inner (K, B, H): W_hn h + b_hn, with `SAVES`. state (B, H) float32: in and out.
    """
    CHUNKS: tl.constexpr = SIZE // CHUNK
    kind: tl.constexpr = hidden.dtype.element_ty
    unit = tl.program_id(0) * UNITS + tl.arange(0, UNITS)
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    many = tl.full([], 0, tl.int64) + n_batch  # times steps it may pass 2^31
    inside, counter = row < n_batch, counters + tl.program_id(1)
    kept = inside[:, None] & (unit[None, :] < SIZE)
    w_r = slice_of(weight, 1, SIZE, unit, CHUNK, CHUNKS)
    w_z = slice_of(weight + SIZE * SIZE, 1, SIZE, unit, CHUNK, CHUNKS)
    w_n = slice_of(weight + 2 * SIZE * SIZE, 1, SIZE, unit, CHUNK, CHUNKS)
    bias = tl.load(inner_bias + unit)[None, :]
    own = row[:, None] * SIZE + unit[None, :]  # of (B, H)
    own_gates = row[:, None] * 3 * SIZE + unit[None, :]
    h = tl.load(state + own, mask=kept, other=0.0)
    low_r, low_z, low_n = gates_of(gates + first * many * 3 * SIZE + own_gates, kept, SIZE)
    r, z, n = low_r.to(tl.float32), low_z.to(tl.float32), low_n.to(tl.float32)
    looks, looks_at_all = LOOKS, LOOKS
    for t in range(first, last):
        at_gates = gates + t * many * 3 * SIZE + own_gates
        following = tl.minimum(t + 1, last - 1)
        low_r, low_z, low_n = gates_of(gates + following * many * 3 * SIZE + own_gates, kept, SIZE)
        source = as_pairs(hidden + t * many * SIZE)
        if WAITS and FIRSTS:
            looks = wait_for_firsts(
                source + tl.program_id(1) * ROWS * (SIZE // 2), looks, UNITS, SIZE // UNITS
            )
        if WAITS and not IN_DATA:
            looks = wait_for_all(counter, (t - first) * tl.num_programs(0), looks)
        start = tl.full(
            [ROWS, UNITS], tl.where((looks > 0) & (looks_at_all > 0), 0.0, float("nan")), tl.float32
        )
        by_r, by_z, by_n = (), (), ()
        for c in tl.static_range(0, CHUNKS, AHEAD):
            pairs = pairs_of(source, 0, source, row, inside, SIZE, CHUNK, c, AHEAD)
            if WAITS and IN_DATA:
                missing = any_unwritten(pairs)
                while (missing > 0) & (looks_at_all > 0):
                    pairs = pairs_of(source, 0, source, row, inside, SIZE, CHUNK, c, AHEAD)
                    missing = any_unwritten(pairs)
                    looks_at_all -= 1
            for i in tl.static_range(len(pairs)):
                halves = halves_of(pairs[i], kind)
                for j in tl.static_range(2):
                    by_r = add_product(by_r, halves[j], w_r[2 * (c + i) + j], start, SUMS)
                    by_z = add_product(by_z, halves[j], w_z[2 * (c + i) + j], start, SUMS)
                    by_n = add_product(by_n, halves[j], w_n[2 * (c + i) + j], start, SUMS)
        product = total_of(by_n) + bias
        r, z = tl.sigmoid(r + total_of(by_r)), tl.sigmoid(z + total_of(by_z))
        n = tanh(n + r * product)
        h = n + z * (h - n)
        tl.store(hidden + (t + 1) * many * SIZE + own, h.to(kind), mask=kept)
        if WAITS and not IN_DATA:
            tell_all(counter)
        if SAVES:
            tl.store(at_gates, r.to(kind), mask=kept)
            tl.store(at_gates + SIZE, z.to(kind), mask=kept)
            tl.store(at_gates + 2 * SIZE, n.to(kind), mask=kept)
            tl.store(inner + t * many * SIZE + own, product.to(kind), mask=kept)
        r, z, n = low_r.to(tl.float32), low_z.to(tl.float32), low_n.to(tl.float32)
    tl.store(state + own, h, mask=kept)


@triton.jit
def saved_of(gates, hidden, inner, above, at_gates, at, kept, SIZE: tl.constexpr):
    """What a step back needs of its program's units: r, z, n, W_hn h + b_hn, the state before, and the gradient."""
    r, z, n = gates_of(gates + at_gates, kept, SIZE)
    product, before = tl.load(inner + at, mask=kept, other=0.0), tl.load(hidden + at, mask=kept, other=0.0)
    return r, z, n, product, before, tl.load(above + at, mask=kept, other=0.0)


@triton.jit(do_not_specialize=["n_batch", "n_steps", "first", "last"])
def gru_backward(  # noqa: PLR0915
    gates, weight, hidden, inner, above, carried, grad_gates, grad_inner, counters, n_batch, n_steps, first, last,
    SIZE: tl.constexpr, ROWS: tl.constexpr, UNITS: tl.constexpr, CHUNK: tl.constexpr, AHEAD: tl.constexpr,
    SUMS: tl.constexpr, WAITS: tl.constexpr, IN_DATA: tl.constexpr, FIRSTS: tl.constexpr,
):  # fmt: skip
    """Steps last - 1 to first, back.

    gates (K, B, 3H) and inner (K, B, H): what `gru_forward` saved. above (K, B, H): the gradient of each state from
    what reads it. carried (B, H) float32: what a state's gradient is by way of the next state's update gate; in and
    out. grad_gates (K, B, 3H), grad_inner (K, B, H): the gradients of the gates, and of W_hn h + b_hn; where programs
    meet at a counter they may be `gates` and `inner` themselves.
    """
    CHUNKS: tl.constexpr = SIZE // CHUNK
    unit = tl.program_id(0) * UNITS + tl.arange(0, UNITS)
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    many = tl.full([], 0, tl.int64) + n_batch  # times steps it may pass 2^31
    inside, counter = row < n_batch, counters + tl.program_id(1)
    kept = inside[:, None] & (unit[None, :] < SIZE)
    weights = slice_of(weight, SIZE, 1, unit, CHUNK, 3 * CHUNKS)
    own = row[:, None] * SIZE + unit[None, :]
    own_gates = row[:, None] * 3 * SIZE + unit[None, :]
    kind: tl.constexpr = gates.dtype.element_ty
    by_update = tl.load(carried + own, mask=kept, other=0.0)
    following = last - 1 + 0 * many
    low_r, low_z, low_n, low_product, low_before, low_above = saved_of(
        gates, hidden, inner, above, following * many * 3 * SIZE + own_gates, following * many * SIZE + own, kept, SIZE
    )  # fmt: skip
    r, z, n = low_r.to(tl.float32), low_z.to(tl.float32), low_n.to(tl.float32)
    product, before = low_product.to(tl.float32), low_before.to(tl.float32)
    from_above = low_above.to(tl.float32)
    looks, looks_at_all = LOOKS, LOOKS
    for back in range(last - first):
        t = last - 1 - back
        following = tl.maximum(t - 1, first) + 0 * many
        low_r, low_z, low_n, low_product, low_before, low_above = saved_of(
            gates, hidden, inner, above, following * many * 3 * SIZE + own_gates, following * many * SIZE + own,
            kept, SIZE,
        )  # fmt: skip
        grad = by_update + from_above
        if t + 1 < n_steps:
            next_gates = as_pairs(grad_gates + (t + 1) * many * 3 * SIZE)
            next_inner = as_pairs(grad_inner + (t + 1) * many * SIZE)
            if WAITS and FIRSTS:
                looks = wait_for_firsts(
                    next_inner + tl.program_id(1) * ROWS * (SIZE // 2), looks, UNITS, SIZE // UNITS
                )
            if WAITS and not IN_DATA:
                looks = wait_for_all(counter, back * tl.num_programs(0), looks)
            start = tl.full(
                [ROWS, UNITS], tl.where((looks > 0) & (looks_at_all > 0), 0.0, float("nan")), tl.float32
            )
            sums = ()
            for c in tl.static_range(0, 3 * CHUNKS, AHEAD):
                pairs = pairs_of(next_gates, 2 * CHUNKS, next_inner, row, inside, SIZE, CHUNK, c, AHEAD)
                if WAITS and IN_DATA:
                    missing = any_unwritten(pairs)
                    while (missing > 0) & (looks_at_all > 0):
                        pairs = pairs_of(
                            next_gates, 2 * CHUNKS, next_inner, row, inside, SIZE, CHUNK, c, AHEAD
                        )
                        missing = any_unwritten(pairs)
                        looks_at_all -= 1
                for i in tl.static_range(len(pairs)):
                    halves = halves_of(pairs[i], kind)
                    for j in tl.static_range(2):
                        sums = add_product(sums, halves[j], weights[2 * (c + i) + j], start, SUMS)
            grad += total_of(sums)
        grad_n = grad * (1.0 - z) * (1.0 - n * n)
        grad_z = grad * (before - n) * z * (1.0 - z)
        grad_r = grad_n * product * r * (1.0 - r)
        by_update = grad * z
        at_gates = grad_gates + t * many * 3 * SIZE + own_gates
        tl.store(at_gates, grad_r.to(kind), mask=kept)
        tl.store(at_gates + SIZE, grad_z.to(kind), mask=kept)
        tl.store(grad_inner + t * many * SIZE + own, (grad_n * r).to(kind), mask=kept)
        if WAITS and not IN_DATA:
            tell_all(counter)
        tl.store(at_gates + 2 * SIZE, grad_n.to(kind), mask=kept)
        r, z, n = low_r.to(tl.float32), low_z.to(tl.float32), low_n.to(tl.float32)
        product, before = low_product.to(tl.float32), low_before.to(tl.float32)
        from_above = low_above.to(tl.float32)
    tl.store(carried + own, by_update, mask=kept)
