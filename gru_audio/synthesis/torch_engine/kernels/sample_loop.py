"""The sample loop of a GRU with a tree, many samples of many streams in one launch; see sample_loop.py above.

A program has ROWS whole streams, so that nothing passes between programs. In each step it reads W_hh once, from the
second-level cache, for all its streams:

    gates (ROWS, 3H) = inputs of the frame + a table row for each code + W_hh h        UNITS units at a time
    readouts (ROWS, S R) = W h                                                         for the step's S samples
    each sample: 16 leaves of the tree's first four levels at once, then one node a level on the way to the code

Products are as exact as float32's on tensor cores: a number is two halves, high = half(x) and low = half(x - high), and
a b = high high + high low + low high, summed in float32. Where all weights are EXACT halves, as a bundled voice's are,
their low ones are 0, and half as much is read. Sums have another order than the other engines', so that
samples are equal until rounding tips a draw.

Sizes are rounded up to what products take; what is behind their ends is 0. What one step leaves for the next lies in
memory: `codes`, `rebuilt` and `audio` have what came before at their beginning, the newest last.
"""

import triton
import triton.language as tl

from gru_audio.signal.gpu.kernels.closed_loop import code_of

LEAVES = tl.constexpr(16)
LEVELS = tl.constexpr(4)
"""Of the tree, whose leaves' shares also give the mean of the distribution."""


@triton.jit
def add_product(total, rest, a_high, a_low, high, low, at, EXACT: tl.constexpr):
    """(n, m) += (n, k) (k, m), of numbers in two halves: the products of high ones, and the others.

    What a is multiplied by lies at `high` and `low`. Where that is EXACT, the low halves are 0 and are not read.
    """
    b_high = tl.load(high + at)
    rest = tl.dot(a_low, b_high, rest)
    if not EXACT:
        rest = tl.dot(a_high, tl.load(low + at), rest)
    return tl.dot(a_high, b_high, total), rest


@triton.jit
def times(a, b):
    return a * b


@triton.jit
def halves(x):
    high = x.to(tl.float16)
    return high, (x - high.to(tl.float32)).to(tl.float16)


@triton.jit
def share_of_right(logit, colder, tail_cut):
    """The probability of bit 1 at nodes; branches less likely than `tail_cut` are never taken."""
    right = tl.sigmoid(logit * colder)
    return tl.where(right < tail_cut, 0.0, tl.where(right > 1.0 - tail_cut, 1.0, right))


@triton.jit
def predict(
    rebuilt, coefficients, relative, edges, ORDER: tl.constexpr, TAPS: tl.constexpr, BITS: tl.constexpr
):
    """Of the P samples from `rebuilt` on (ROWS,): the next one's prediction, the codes of the last and of that."""
    k = tl.arange(0, TAPS)[None, :]
    past = tl.load(rebuilt[:, None] + k, mask=k < ORDER, other=0.0)
    prediction = tl.sum(coefficients * past, 1)
    last_code = code_of(tl.div_rn(tl.load(rebuilt + ORDER - 1), relative), edges, BITS)
    return prediction, last_code, code_of(tl.div_rn(prediction, relative), edges, BITS)


@triton.jit
def add_rows(total, tables, number, code, place, BITS: tl.constexpr, WIDTH: tl.constexpr):
    """Adds the rows of codes (ROWS,) of one table to a total; past the first cache, which has no room for tables."""
    row = tables + ((number << BITS) + code)[:, None] * WIDTH
    return total + tl.load(row + place, cache_modifier=".cg")


@triton.jit
def next_state(
    gate_inputs, step_codes, step_tables, w_high, w_low, new_bias, hidden, half_states, lane, n_lanes, now,
    SIZE: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, UNITS: tl.constexpr, CHUNK: tl.constexpr,
    N_TABLES: tl.constexpr, BITS: tl.constexpr, STAGES: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """One recurrent step.

    gate_inputs (ROWS,) point to the frame's. half_states (2, 2, n_lanes, H) are of this step and of the next, high and
    low; `now` says which is which.
    """
    n_before = n_lanes * WIDTH
    source = half_states + now * 2 * n_before + lane[:, None] * WIDTH
    target = half_states + (1 - now) * 2 * n_before + lane[:, None] * WIDTH
    for first in range(0, WIDTH, UNITS):
        unit = first + tl.arange(0, UNITS)
        place, known = unit[None, :], unit[None, :] < SIZE
        r = tl.load(gate_inputs[:, None] + place, mask=known, other=0.0)
        z = tl.load(gate_inputs[:, None] + SIZE + place, mask=known, other=0.0)
        n = tl.load(gate_inputs[:, None] + 2 * SIZE + place, mask=known, other=0.0)
        for i in tl.static_range(N_TABLES):
            r = add_rows(r, step_tables, i, step_codes[i], place, BITS, 3 * WIDTH)
            z = add_rows(z, step_tables, i, step_codes[i], WIDTH + place, BITS, 3 * WIDTH)
            n = add_rows(n, step_tables, i, step_codes[i], 2 * WIDTH + place, BITS, 3 * WIDTH)
        # Tensor cores cut what they add to the length of the sum so far: large and small products apart, inputs last.
        by_r = tl.zeros([ROWS, UNITS], tl.float32)
        by_z, by_n, rest_r, rest_z, rest_n = by_r, by_r, by_r, by_r, by_r
        for c in tl.range(0, WIDTH, CHUNK, num_stages=STAGES):
            k = c + tl.arange(0, CHUNK)
            h_high, h_low = tl.load(source + k[None, :]), tl.load(source + n_before + k[None, :])
            at = place * WIDTH + k[:, None]
            by_r, rest_r = add_product(by_r, rest_r, h_high, h_low, w_high, w_low, at, EXACT)
            at += WIDTH * WIDTH
            by_z, rest_z = add_product(by_z, rest_z, h_high, h_low, w_high, w_low, at, EXACT)
            at += WIDTH * WIDTH
            by_n, rest_n = add_product(by_n, rest_n, h_high, h_low, w_high, w_low, at, EXACT)
        r, z = tl.sigmoid(r + (by_r + rest_r)), tl.sigmoid(z + (by_z + rest_z))
        product = by_n + rest_n + tl.load(new_bias + unit)[None, :]
        own = hidden + lane[:, None] * WIDTH + place
        n = 2.0 * tl.sigmoid(2.0 * (n + r * product)) - 1.0
        h = n + z * (tl.load(own) - n)
        high, low = halves(h)
        tl.store(own, h)
        tl.store(target + place, high)
        tl.store(target + n_before + place, low)


@triton.jit
def keep_readouts(
    kept, state, n_between, start, high, low, bias,
    STRIDE: tl.constexpr, WIDTH: tl.constexpr, READOUT_WIDTH: tl.constexpr, ROWS: tl.constexpr, CHUNK: tl.constexpr,
    STAGES: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """What a step's state adds to its samples' readouts (ROWS, R), and what the frame does; `state` to high halves."""
    j = tl.arange(0, READOUT_WIDTH)
    for i in range(STRIDE):
        total = tl.zeros([ROWS, READOUT_WIDTH], tl.float32)
        rest = total
        for c in tl.range(0, WIDTH, CHUNK, num_stages=STAGES):
            k = c + tl.arange(0, CHUNK)
            at = (i * READOUT_WIDTH + j[None, :]) * WIDTH + k[:, None]
            h_high, h_low = tl.load(state + k[None, :]), tl.load(state + n_between + k[None, :])
            total, rest = add_product(total, rest, h_high, h_low, high, low, at, EXACT)
        total += rest + (start + tl.load(bias + i * READOUT_WIDTH + j)[None, :])
        tl.store(kept + i * READOUT_WIDTH, total)


@triton.jit
def draw(
    x, uniform, colder, tail_cut, top_high, top_low, top_bias, output, output_bias, group_means,
    ROWS: tl.constexpr, WIDTH: tl.constexpr, BITS: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Of readouts (ROWS, R): codes (ROWS,), and the means of their distributions."""
    leaf, j = tl.arange(0, LEAVES), tl.arange(0, WIDTH)
    place = tl.arange(0, LEAVES * LEVELS)  # of a leaf's levels one after the other
    x_high, x_low = halves(x)
    at = place[None, :] * WIDTH + j[:, None]
    zeros = tl.zeros([ROWS, LEAVES * LEVELS], tl.float32)
    logit, rest = add_product(zeros, zeros, x_high, x_low, top_high, top_low, at, EXACT)
    right = share_of_right(logit + (rest + tl.load(top_bias + place)[None, :]), colder[:, None], tail_cut)
    level = place % LEVELS
    goes_right = (
        place // LEVELS // tl.where(level < 2, tl.where(level == 0, 8, 4), tl.where(level == 2, 2, 1)) % 2
    )
    on_way = tl.where(goes_right[None, :] == 1, right, 1.0 - right)
    shares = tl.reduce(tl.reshape(on_way, [ROWS, LEAVES, LEVELS]), 2, times)
    below = tl.cumsum(shares, 1) - shares
    code = tl.max(tl.where((below <= uniform[:, None]) & (shares > 0.0), leaf[None, :], 0), 1)
    drawn = leaf[None, :] == code[:, None]
    start, share = tl.sum(tl.where(drawn, below, 0.0), 1), tl.sum(tl.where(drawn, shares, 0.0), 1)
    rest, node = (uniform - start) / share, code + (LEAVES - 1)  # where in the leaf's interval, from 0 to 1
    for _ in range(LEVELS, BITS):
        weights = tl.load(output + node[:, None] * WIDTH + j[None, :])
        of_1 = share_of_right(tl.sum(x * weights, 1) + tl.load(output_bias + node), colder, tail_cut)
        of_0 = 1.0 - of_1
        bit = (rest >= of_0) & (of_1 > 0.0)
        rest = (rest - tl.where(bit, of_0, 0.0)) / tl.where(bit, of_1, of_0)
        code = 2 * code + bit.to(tl.int32)
        node = 2 * node + 1 + bit.to(tl.int32)
    return code, tl.sum(shares * tl.load(group_means + leaf)[None, :], 1)


# Not compiled anew for numbers that are 1, or multiples of 16.
@triton.jit(do_not_specialize=["n_streams", "n_lanes", "n_frames", "hop", "uniform_stride"])
def sample_loop(  # noqa: PLR0915
    gate_inputs, readout_inputs, coefficients, excitation_scale, signal_scale, lags, uniforms,
    step_tables, w_high, w_low, new_bias, readout_high, readout_low, readout_bias, readout_tables,
    top_high, top_low, top_bias, output, output_bias, edges, expansion, group_means,
    hidden, half_states, readouts, codes, rebuilt, noise, audio,
    n_streams, n_lanes, n_frames, hop, uniform_stride, temperature, voiced_temperature, tail_cut, preemphasis,
    tap_1, tap_2, tap_3,
    SIZE: tl.constexpr, WIDTH: tl.constexpr, READOUT: tl.constexpr, READOUT_WIDTH: tl.constexpr,
    ORDER: tl.constexpr, TAPS: tl.constexpr, STRIDE: tl.constexpr, BITS: tl.constexpr, LONGEST_LAG: tl.constexpr,
    SHAPED: tl.constexpr, ROWS: tl.constexpr, UNITS: tl.constexpr, CHUNK: tl.constexpr, STAGES: tl.constexpr,
    EXACT: tl.constexpr,
):  # fmt: skip
    """n_frames frames of n_streams streams, whose places in what is kept are rounded up to n_lanes.

    Of a frame: gate_inputs (B, F, 3H), readout_inputs (B, F, R), coefficients (B, F, P) for the oldest sample first,
    both scales and lags (B, F); uniforms (B, F hop). Kept: hidden (n_lanes, H), half_states (2, 2, n_lanes, H),
    readouts (n_lanes, S, R), codes (n_lanes, L + F hop), rebuilt (n_lanes, P + F hop), noise (n_lanes, 3), newest last,
    and audio (n_lanes, 1 + F hop). The weights are laid out by fused.py.
    """
    lane = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    row = tl.minimum(lane, n_streams - 1).to(tl.int64)  # places without a stream do as the last one does
    lane = lane.to(tl.int64)
    n_samples = n_frames * hop
    codes += lane * (LONGEST_LAG + n_samples) + LONGEST_LAG  # to sample 0
    rebuilt += lane * (ORDER + n_samples)  # to P before it
    audio += lane * (1 + n_samples)  # to 1 before it
    k, j = tl.arange(0, TAPS)[None, :], tl.arange(0, READOUT_WIDTH)
    N_TABLES: tl.constexpr = 2 * STRIDE + 2 if ORDER > 0 else STRIDE
    before = tl.load(audio)
    noise += lane * 3
    noise_3, noise_2, noise_1 = tl.load(noise), tl.load(noise + 1), tl.load(noise + 2)
    now = 0
    for frame in range(n_frames):
        at = row * n_frames + frame
        lag = tl.load(lags + at)
        is_voiced = lag > 0
        colder = 1.0 / tl.where(is_voiced, voiced_temperature, temperature)
        scale, relative = tl.load(excitation_scale + at), tl.load(signal_scale + at)
        a = tl.load(coefficients + at[:, None] * ORDER + k, mask=k < ORDER, other=0.0)
        start_of_readout = tl.load(
            readout_inputs + at[:, None] * READOUT + j[None, :], mask=j[None, :] < READOUT, other=0.0
        )
        for first in range(frame * hop, (frame + 1) * hop, STRIDE):
            step_codes = ()
            for i in tl.static_range(STRIDE):
                step_codes = step_codes + (tl.load(codes + first - 1 - i),)
            if ORDER > 0:
                _, last_code, prediction_code = predict(
                    rebuilt + first, a, relative, edges, ORDER, TAPS, BITS
                )
                step_codes = step_codes + (last_code, prediction_code)
                for i in tl.static_range(STRIDE):
                    delayed = tl.load(codes + first + i - lag)  # of lag 0 it is not taken
                    step_codes = step_codes + (tl.where(is_voiced, delayed, 1 << (BITS - 1)),)
            next_state(
                gate_inputs + at * 3 * SIZE, step_codes, step_tables, w_high, w_low, new_bias, hidden, half_states,
                lane, n_lanes, now, SIZE, WIDTH, ROWS, UNITS, CHUNK, N_TABLES, BITS, STAGES, EXACT,
            )  # fmt: skip
            now = 1 - now
            tl.debug_barrier()
            kept = readouts + lane[:, None] * (STRIDE * READOUT_WIDTH) + j[None, :]
            state = half_states + now * 2 * n_lanes * WIDTH + lane[:, None] * WIDTH
            keep_readouts(
                kept, state, n_lanes * WIDTH, start_of_readout, readout_high, readout_low, readout_bias, STRIDE, WIDTH,
                READOUT_WIDTH, ROWS, CHUNK, STAGES, EXACT,
            )  # fmt: skip
            tl.debug_barrier()
            for i in range(STRIDE):
                t = first + i
                x = tl.load(kept + i * READOUT_WIDTH)
                for past in tl.static_range(STRIDE):
                    code = tl.load(codes + t - 1 - past)
                    x = add_rows(x, readout_tables, past, code, j[None, :], BITS, READOUT_WIDTH)
                prediction = tl.zeros([ROWS], tl.float32)
                if ORDER > 0:
                    prediction, last_code, prediction_code = predict(
                        rebuilt + t, a, relative, edges, ORDER, TAPS, BITS
                    )
                    delayed = tl.where(is_voiced, tl.load(codes + t - lag), 1 << (BITS - 1))
                    x = add_rows(x, readout_tables, STRIDE, last_code, j[None, :], BITS, READOUT_WIDTH)
                    x = add_rows(
                        x, readout_tables, STRIDE + 1, prediction_code, j[None, :], BITS, READOUT_WIDTH
                    )
                    x = add_rows(x, readout_tables, STRIDE + 2, delayed, j[None, :], BITS, READOUT_WIDTH)
                uniform = tl.load(uniforms + row * uniform_stride + t)
                code, mean = draw(
                    tl.maximum(x, 0.0), uniform, colder, tail_cut, top_high, top_low, top_bias, output, output_bias,
                    group_means, ROWS, READOUT_WIDTH, BITS, EXACT,
                )  # fmt: skip
                amplitude = tl.load(expansion + code)
                if SHAPED:
                    shaped = amplitude - (tap_1 * noise_1 + tap_2 * noise_2 + tap_3 * noise_3)
                    noise_3, noise_2, noise_1 = noise_2, noise_1, amplitude - mean
                    code = tl.where(is_voiced, code_of(shaped, edges, BITS), code)
                    amplitude = tl.load(expansion + code)
                sample = prediction + scale * amplitude
                before = sample + preemphasis * before
                tl.store(codes + t, code)
                tl.store(rebuilt + ORDER + t, sample)
                tl.store(audio + 1 + t, before)
                tl.debug_barrier()
    tl.store(noise, noise_3)
    tl.store(noise + 1, noise_2)
    tl.store(noise + 2, noise_1)
