"""The sample loop as one compiled function with int8 weights, for a GRU with a tree output.

Nothing is allocated inside and the interpreter's lock is not held. The caller makes and checks every array. The
steps that take the time are int8_stages.py's. Shapes: see model.py and packing.py.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gru_audio.config import Config, SignalConfig
from gru_audio.jit import compiled
from gru_audio.lanes import LANES, processor_features
from gru_audio.mulaw import expansion_table, thresholds
from gru_audio.synthesis.byte_products import byte_product_for
from gru_audio.synthesis.int8_stages import (
    GATES,
    VECTOR_BYTES,
    Counts,
    GRUAddresses,
    ReadoutAddresses,
    TreeAddresses,
    find_rows,
    multiply_gru,
    numbered,
    read_out,
    step_gru,
    to_activations,
    walk_subtree,
    weigh_nodes,
)
from gru_audio.synthesis.packing import SUBTREE_BITS, PackedGRU, PackedReadout, aligned

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

_BITS_OF_BUCKET = 18
"""Bits of a float that the companding table leaves out for codes of 8 bits: 32 buckets an octave, none with more than
one threshold; a bit more or less for codes of another size."""

_GROUPS_A_PAUSE = 2
"""So many groups' recurrent products are computed wherever drawing a sample waits for itself, on AVX-512. All others go
with their gates, as what is ready beforehand is written to memory and fetched again. Other processors have too few
registers for both: there all are ready."""

_ZERO, _ONE = np.float32(0), np.float32(1)


class SignalTables(NamedTuple):
    """The signal model's constants.

    Attributes:
        edges: (Q,) mu-law's ascending thresholds, and behind them NaN, which not even infinity reaches.
        expansion: (Q,) the amplitude of each code.
        first_codes: for each bucket of floats the code of its least; see `_code_of`.
        bucket_bits: (1,), how many of a float's bits a bucket leaves open.
        preemphasis: (1,).
    """

    edges: FloatArray
    expansion: FloatArray
    first_codes: npt.NDArray[np.int16]
    bucket_bits: IntArray
    preemphasis: FloatArray


def signal_tables(config: SignalConfig) -> SignalTables:
    """The constants of a signal model."""
    edges = np.append(thresholds(config.n_classes), np.float32(np.nan))
    bucket_bits = _BITS_OF_BUCKET + 8 - config.bits
    half = (int(np.float32(1).view(np.int32)) >> bucket_bits) + 1
    ordered = np.arange(-half, half, dtype=np.int32) << bucket_bits
    least = np.where(ordered >= 0, ordered, ordered ^ 0x7FFFFFFF).astype(np.int32).view(np.float32)
    first_codes = np.searchsorted(edges, least, side="right").astype(np.int16)
    first_codes[0] = 0
    return SignalTables(
        edges,
        expansion_table(config.n_classes).copy(),  # read-only arrays would be another type to numba
        first_codes,
        np.array([bucket_bits]),
        np.array([config.preemphasis], np.float32),
    )


class Sizes(NamedTuple):
    """Sizes for which the loop is compiled: tuples, whose lengths the compiler knows.

    Each holds the numbers from 0 on: of a step's samples (S), of the predictor's coefficients (P), of a code's bits,
    of the readout's groups (R' / 16), for each gate of the blocks of a group's rows, of the pauses in drawing a sample,
    of the groups whose products fill one; `forced` is (0,) where codes are given and weighed, else ().
    """

    turns: tuple[int, ...]
    taps: tuple[int, ...]
    bits: tuple[int, ...]
    readout_groups: tuple[int, ...]
    blocks: Counts
    pauses: tuple[int, ...]
    pause: tuple[int, ...]
    forced: tuple[int, ...] = ()


def sizes_of(config: Config, gru: PackedGRU, readout: PackedReadout) -> Sizes:
    """The sizes of a voice."""
    n_turns, n_bits = config.model.samples_per_step, config.signal.bits
    n_pauses = 2 + 2 * -(-n_bits // SUBTREE_BITS)  # two at each subtree, and two before
    n_groups_a_pause = -(-len(gru.product_start) // (n_turns * n_pauses))
    if byte_product_for(processor_features()) == "avx512-vnni":
        n_groups_a_pause = min(n_groups_a_pause, _GROUPS_A_PAUSE)
    return Sizes(
        turns=tuple(range(n_turns)),
        taps=tuple(range(config.signal.lpc_order)),
        bits=tuple(range(n_bits)),
        readout_groups=tuple(range(readout.blocks.shape[2])),
        blocks=numbered(gru.counts),
        pauses=tuple(range(n_pauses)),
        pause=tuple(range(n_groups_a_pause)),
    )


class Frames(NamedTuple):
    """What the loop needs of F frames; see frontend.FrameBlock.

    Attributes:
        gates: (F, N, 3, 16) int32, in the units of the GRU's rows.
        readout: (F, S, R') int32, in the units of the readout's rows.
        coefficients: (F, P).
        excitation_scale: (F,).
        inverse_signal_scale: (F,).
        lags: (F,), 0 where unvoiced.
    """

    gates: npt.NDArray[np.int32]
    readout: npt.NDArray[np.int32]
    coefficients: FloatArray
    excitation_scale: FloatArray
    inverse_signal_scale: FloatArray
    lags: IntArray


class Scratch(NamedTuple):
    """Room for one sample at a time, made by `scratch_for`."""

    codes: IntArray
    rows: IntArray
    products: npt.NDArray[np.int32]
    readout_sums: npt.NDArray[np.int32]
    values: FloatArray
    row: npt.NDArray[np.uint8]
    left: FloatArray


def scratch_for(gru: PackedGRU, readout: PackedReadout) -> Scratch:
    """Room for a loop over these layers."""
    n_tables, n_units, stride = len(gru.tables), readout.units.size, readout.blocks.shape[1]
    return Scratch(
        np.zeros(n_tables, np.int64),
        np.zeros(n_tables, np.int64),
        aligned(np.zeros(gru.product_start.size * GATES, np.int32)),
        aligned(np.zeros((stride, n_units), np.int32)),
        aligned(np.zeros(n_units, np.float32)),
        aligned(np.zeros(n_units, np.uint8)),
        aligned(np.zeros(LANES, np.float32)),
    )


class Stream(NamedTuple):
    """A stream's state and what it draws from; all but `uniforms` and `forced` change in place.

    Attributes:
        hidden: (H',).
        activations: (2, H'), first the bytes of `hidden`; those of each step are written beside those before it.
        history: (L + T,) excitation codes, the first L given.
        past: (P + T,) rebuilt signal, the first P given.
        last_audio: (1,) the sample before.
        uniforms: (T,) in [0, 1).
        forced: (T,) codes in place of what would be drawn; read where `Sizes.forced` says so.
        probability: (T,) receives P of the forced codes.
    """

    hidden: FloatArray
    activations: npt.NDArray[np.uint8]
    history: IntArray
    past: FloatArray
    last_audio: FloatArray
    uniforms: FloatArray
    forced: IntArray
    probability: FloatArray


@compiled()
def generate(
    gru: GRUAddresses,
    readout: ReadoutAddresses,
    tree: TreeAddresses,
    sizes: Sizes,
    signal: SignalTables,
    frames: Frames,
    stream: Stream,
    inverse_temperature: np.float32,
    tail_cut: np.float32,
    scratch: Scratch,
    audio: FloatArray,
) -> None:
    """Generate the samples of F frames, or weigh given ones.

    Args:
        gru: the recurrent layer.
        readout: the readout layer.
        tree: the output.
        sizes: what the loop is compiled for.
        signal: the signal model's constants.
        frames: the frames.
        stream: the stream.
        inverse_temperature: multiplies the logits.
        tail_cut: branches less likely are never taken.
        scratch: room.
        audio: (T,) out.
    """
    stride, order = len(sizes.turns), len(sizes.taps)
    n_units = len(sizes.readout_groups) * LANES
    n_step_tables, n_readout_tables = (2 * stride + 2, stride + 3) if order else (stride, stride)
    hop = audio.size // frames.lags.size
    codes, rows = scratch.codes, scratch.rows
    state, other_state = stream.activations[0].ctypes.data, stream.activations[1].ctypes.data
    products, n_ready = scratch.products.ctypes.data, n_ready_groups(sizes, gru.n_groups)
    sums, values = scratch.readout_sums.ctypes.data, scratch.values.ctypes.data
    before, audio_before = _ZERO, stream.last_audio[0]
    if order:
        before = stream.past[order - 1]
    multiply_gru(gru, sizes.blocks, 0, n_ready, state, products)
    from_past = _predict_from_past(sizes, frames, 0, stream, 0)
    for frame in range(frames.lags.size):
        gates = frames.gates.ctypes.data + frame * gru.n_groups * GATES * VECTOR_BYTES
        inputs = frames.readout.ctypes.data + frame * stride * n_units * 4
        for first in range(frame * hop, (frame + 1) * hop, stride):
            for i in range(stride):
                t = first + i
                prediction = _read_past(sizes, signal, frames, frame, stream, t, from_past, before, codes)
                if i == 0:
                    find_rows(gru, n_step_tables, codes, 0, rows)
                    step_gru(
                        gru,
                        sizes.blocks,
                        readout,
                        sizes.turns,
                        sizes.readout_groups,
                        n_ready,
                        products,
                        rows.ctypes.data,
                        n_step_tables,
                        gates,
                        inputs,
                        stream.hidden.ctypes.data,
                        state,
                        other_state,
                        sums,
                    )
                    state, other_state = other_state, state
                find_rows(readout, n_readout_tables, codes, 0, rows)
                read_out(
                    readout, i, len(sizes.readout_groups), rows.ctypes.data, n_readout_tables, sums, values
                )
                following = min(frame + (t + 1 == (frame + 1) * hop), frames.lags.size - 1)
                from_past = _predict_from_past(sizes, frames, following, stream, t + 1)
                code, probability = _draw(
                    gru,
                    tree,
                    sizes,
                    stream,
                    t,
                    i,
                    inverse_temperature,
                    tail_cut,
                    scratch,
                    state,
                    products,
                )
                if len(sizes.forced):
                    stream.probability[t] = probability
                stream.history[stream.history.size - audio.size + t] = code
                before = prediction + frames.excitation_scale[frame] * signal.expansion[code]
                stream.past[order + t] = before
                audio_before = before + signal.preemphasis[0] * audio_before
                audio[t] = audio_before
    stream.last_audio[0] = audio_before


@compiled(inline="always")
def _read_past(
    sizes: Sizes,
    signal: SignalTables,
    frames: Frames,
    frame: int,
    stream: Stream,
    t: int,
    from_past: np.float32,
    before: np.float32,
    codes: IntArray,
) -> np.float32:
    """The prediction of sample t, and the codes that its step reads, in the order of the tables.

    `from_past` is what `_predict_from_past` gave for it, `before` the sample before.
    """
    stride, order = len(sizes.turns), len(sizes.taps)
    at, lag = stream.history.size - stream.uniforms.size + t, frames.lags[frame]
    prediction: np.float32 = _ZERO
    for k in range(stride):
        codes[k] = stream.history[at - 1 - k]
    if order:
        prediction = from_past + frames.coefficients[frame, 0] * before
        inverse_scale = frames.inverse_signal_scale[frame]
        codes[stride] = _code_of(before * inverse_scale, signal)
        codes[stride + 1] = _code_of(prediction * inverse_scale, signal)
        for k in range(stride):
            codes[stride + 2 + k] = stream.history[at + k - lag] if lag else signal.expansion.size // 2
    return prediction


@compiled(inline="always")
def _predict_from_past(sizes: Sizes, frames: Frames, frame: int, stream: Stream, t: int) -> np.float32:
    """What all samples but the last add to the prediction of sample t: it can be summed before that is drawn."""
    order = len(sizes.taps)
    total: np.float32 = _ZERO
    for k in range(order - 1, 0, -1):
        total += frames.coefficients[frame, k] * stream.past[order + t - 1 - k]
    return total


@compiled(inline="always")
def _draw(
    gru: GRUAddresses,
    tree: TreeAddresses,
    sizes: Sizes,
    stream: Stream,
    t: int,
    i: int,
    inverse_temperature: np.float32,
    tail_cut: np.float32,
    scratch: Scratch,
    state: int,
    products: int,
) -> tuple[int, np.float32]:
    """Draw the code of sample t, the i-th of its step, from the readout's values; gives its probability too.

    The next step's recurrent products need no code that is still to be drawn: some are computed where drawing waits for
    itself.
    """
    n_bits, n_readout_groups = len(sizes.bits), len(sizes.readout_groups)
    ready = i * len(sizes.pauses) * len(sizes.pause)
    row, left = scratch.row.ctypes.data, scratch.left.ctypes.data
    ready = _fill_pause(gru, sizes, ready, state, products)
    unit = to_activations(scratch.values.ctypes.data, n_readout_groups, row)
    ready = _fill_pause(gru, sizes, ready, state, products)
    code, first_subtree, interval, uniform = 0, 0, _ONE, stream.uniforms[t]
    for level in range(0, n_bits, SUBTREE_BITS):
        subtree, groups = first_subtree + code, sizes.readout_groups
        weigh_nodes(tree, subtree, groups, row, unit, inverse_temperature, tail_cut, left)
        ready = _fill_pause(gru, sizes, ready, state, products)
        depth = min(SUBTREE_BITS, n_bits - level)
        leaf = -1
        if len(sizes.forced):
            leaf = (stream.forced[t] >> (n_bits - level - depth)) & ((1 << depth) - 1)
        node, interval, uniform = walk_subtree(scratch.left, depth, interval, uniform, leaf)
        code, first_subtree = (code << depth) + node, first_subtree + (1 << level)
        ready = _fill_pause(gru, sizes, ready, state, products)
    return code, interval


@compiled(inline="always")
def n_ready_groups(sizes: Sizes, n_groups: int) -> int:
    """How many groups' recurrent products are ready when a step begins; an even number."""
    return min(n_groups, len(sizes.turns) * len(sizes.pauses) * len(sizes.pause)) // 2 * 2


@compiled(inline="always")
def _fill_pause(gru: GRUAddresses, sizes: Sizes, ready: int, state: int, products: int) -> int:
    """Compute the next groups' recurrent products; gives how many are ready then."""
    last = min(ready + len(sizes.pause), n_ready_groups(sizes, gru.n_groups))
    multiply_gru(gru, sizes.blocks, ready, last, state, products)
    return ready + len(sizes.pause)


@compiled(inline="always")
def _code_of(value: np.float32, signal: SignalTables) -> int:
    """mulaw.code_of by table: equal steps of a float's bit pattern give the code, but for one threshold at most."""
    bits = np.int64(np.float32(value).view(np.int32))
    ordered = bits if bits >= 0 else bits ^ 0x7FFFFFFF
    n_buckets = signal.first_codes.size
    bucket = min(max((ordered >> signal.bucket_bits[0]) + n_buckets // 2, 0), n_buckets - 1)
    code = np.int64(signal.first_codes[bucket])
    return int(code + (signal.edges[code] <= value))
