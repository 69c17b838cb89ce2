"""The closed loop of native/signal/codec.c in Triton: a thread goes through a crop's samples, one after the other.

    arrays (T, B), time by time:    | t = 0 of crops 0 .. B-1 | t = 1 of crops 0 .. B-1 | ..
    frames (F, B) and (F, B, P):    the same, frame by frame

Threads next to each other have crops next to each other, so that each load is one piece of memory. Launch with one
warp a program, so that a thread reads back what it wrote itself, and with enable_fp_fusion=False.
"""

import triton
import triton.language as tl


@triton.jit
def code_of(x, edges, BITS: tl.constexpr):
    """How many of the ascending edges are at or below x, by halving; see native/signal/mulaw.h."""
    code = tl.zeros_like(x).to(tl.int32)
    for level in tl.static_range(BITS):
        edge = tl.load(edges + code + ((1 << (BITS - 1 - level)) - 1))
        code += tl.where(edge <= x, 1 << (BITS - 1 - level), 0)
    return code


@triton.jit
def closed_loop(
    signal, coefficients, excitation_scale, signal_scale, noise, edges, expansion,
    targets, excitations, previous_signals, predictions, rebuilt,
    n_crops, n_samples, hop,
    ORDER: tl.constexpr, BITS: tl.constexpr, CROPS: tl.constexpr,
):  # fmt: skip
    """Signal (T, B) -> four arrays of codes (T, B) int16, and the rebuilt signal (T, B)."""
    crop = tl.program_id(0) * CROPS + tl.arange(0, CROPS)
    inside = crop < n_crops
    before = tl.zeros([CROPS], tl.float32)
    for t in range(n_samples):
        at, frame = t * n_crops + crop, (t // hop) * n_crops + crop
        prediction = tl.zeros([CROPS], tl.float32)
        for k in tl.static_range(ORDER):  # the newest first, as in C
            past = tl.load(rebuilt + at - (1 + k) * n_crops, mask=inside & (k < t), other=0.0)
            prediction += tl.load(coefficients + frame * ORDER + k, mask=inside, other=0.0) * past
        scale = tl.load(excitation_scale + frame, mask=inside, other=1.0)
        relative_to = tl.load(signal_scale + frame, mask=inside, other=1.0)
        rest = tl.load(signal + at, mask=inside, other=0.0) - prediction
        code = code_of(tl.div_rn(rest, scale), edges, BITS)
        noisy = code + tl.load(noise + at, mask=inside, other=0).to(tl.int32)
        noisy = tl.minimum(tl.maximum(noisy, 0), (1 << BITS) - 1)
        before_code = code_of(tl.div_rn(before, relative_to), edges, BITS)
        prediction_code = code_of(tl.div_rn(prediction, relative_to), edges, BITS)
        before = prediction + scale * tl.load(expansion + noisy)
        tl.store(rebuilt + at, before, mask=inside)
        tl.store(targets + at, code.to(tl.int16), mask=inside)
        tl.store(excitations + at, noisy.to(tl.int16), mask=inside)
        tl.store(previous_signals + at, before_code.to(tl.int16), mask=inside)
        tl.store(predictions + at, prediction_code.to(tl.int16), mask=inside)
