"""Triton's part of the linear prediction: sums of doubles in C's order, and Levinson and Durbin's recursion.

    ordered_product   out[f, r] = sum_i  rows[r, i] x[f, i]          i = 0, 1, 2, .., one accumulator each

    frame f  |  thread of (f, r)          a program has FRAMES x ROWS sums; i goes on in step for all of them
             |
             r

    levinson_durbin   a thread has a frame; arrays lie (lag, frame), so that threads read next to each other

    correlation  | r[0] of frames 0 .. n-1 | r[1] of frames 0 .. n-1 | ..        (P + 1, n)
    solved       | a[1] of frames 0 .. n-1 | .. | the error's RMS | the signal's RMS |    (P + 2, n)

Launch with enable_fp_fusion=False: a fused product would round once where C rounds twice.
"""

import triton
import triton.language as tl


@triton.jit
def ordered_product(x, rows, out, n_frames, n_rows, n_inputs, FRAMES: tl.constexpr, ROWS: tl.constexpr):
    """Of x (n_inputs, n_frames) and rows (n_rows, n_inputs): out (n_rows, n_frames); all double."""
    f = tl.program_id(0) * FRAMES + tl.arange(0, FRAMES)
    r = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    total = tl.zeros([ROWS, FRAMES], tl.float64)
    for i in range(n_inputs):
        inputs = tl.load(x + i * n_frames + f, mask=f < n_frames, other=0.0)
        weights = tl.load(rows + r * n_inputs + i, mask=r < n_rows, other=0.0)
        total += weights[:, None] * inputs[None, :]
    place = out + r[:, None] * n_frames + f[None, :]
    tl.store(place, total, mask=(r < n_rows)[:, None] & (f < n_frames)[None, :])


@triton.jit
def levinson_durbin(
    correlation, window_energy, solved, previous, n_frames, ORDER: tl.constexpr, FRAMES: tl.constexpr
):
    """See native/signal/lpc.c, gru_levinson_durbin, lpc_predict; previous (P, n) is scratch, window_energy a double."""
    f = tl.program_id(0) * FRAMES + tl.arange(0, FRAMES)
    inside = f < n_frames
    energy = tl.load(correlation + f, mask=inside, other=1.0)
    for i in range(ORDER):
        reflection = tl.load(correlation + (i + 1) * n_frames + f, mask=inside, other=0.0)
        for k in range(i):
            a = tl.load(solved + k * n_frames + f, mask=inside, other=0.0)
            reflection -= a * tl.load(correlation + (i - k) * n_frames + f, mask=inside, other=0.0)
        reflection = reflection / energy
        energy *= 1.0 - reflection * reflection
        for k in range(i):
            a = tl.load(solved + k * n_frames + f, mask=inside, other=0.0)
            tl.store(previous + k * n_frames + f, a, mask=inside)
        for k in range(i):
            a = tl.load(previous + k * n_frames + f, mask=inside, other=0.0)
            mirrored = tl.load(previous + (i - 1 - k) * n_frames + f, mask=inside, other=0.0)
            tl.store(solved + k * n_frames + f, a - reflection * mirrored, mask=inside)
        tl.store(solved + i * n_frames + f, reflection, mask=inside)
    samples = tl.load(window_energy)
    signal = tl.load(correlation + f, mask=inside, other=1.0)
    tl.store(solved + ORDER * n_frames + f, tl.sqrt(energy / samples), mask=inside)
    tl.store(solved + (ORDER + 1) * n_frames + f, tl.sqrt(signal / samples), mask=inside)
