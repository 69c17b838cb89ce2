"""The compiled engines: a sample loop in C, one stream after the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gru_audio.arrays import FloatArray
from gru_audio.config import Config
from gru_audio.native import library
from gru_audio.synthesis.engine import require_saved
from gru_audio.synthesis.frontend import FrameBlock
from gru_audio.synthesis.sampling import (
    N_TAPS,
    PLAIN,
    PLAIN_SAMPLING,
    UNCHANGED,
    Sampling,
    VoicedDraws,
    VoiceSampling,
)


@dataclass
class StreamState:
    """One stream between two blocks.

    Attributes:
        hidden: (H,) recurrent state.
        codes: (L,) the last excitation codes, newest last; L is the longest lag.
        rebuilt: (P,) the last pre-emphasised samples, newest last.
        audio: (1,) the last sample.
        noise: (3,) deviations of the last excitations from their means, newest last; see `sampling.VoicedDraws`.
    """

    hidden: FloatArray
    codes: npt.NDArray[np.int64]
    rebuilt: FloatArray
    audio: FloatArray = field(default_factory=lambda: np.zeros(1, np.float32))
    noise: FloatArray = field(default_factory=lambda: np.zeros(N_TAPS, np.float32))


@dataclass(frozen=True)
class Draws:
    """How the codes of a block come about; see `distribution.probabilities`.

    Attributes:
        uniforms: (T,) in [0, 1).
        temperature: divides the logits.
        tail_cut: branches less likely are never taken.
        forced: (T,) codes in place of what would be drawn; empty for none.
        probability: (T,) receives P of each forced code.
        voiced: what is different in voiced frames.
    """

    uniforms: FloatArray
    temperature: float = 1.0
    tail_cut: float = 0.0
    forced: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    probability: FloatArray = field(default_factory=lambda: np.empty(0, np.float32))
    voiced: VoicedDraws = PLAIN


@dataclass(frozen=True)
class Past:
    """What a block begins with, and room for what it adds.

    Attributes:
        codes: (L + T,) excitation codes.
        rebuilt: (P + T,) pre-emphasised samples.
    """

    codes: npt.NDArray[np.int64]
    rebuilt: FloatArray


_SHAPING_FIELDS: tuple[tuple[str, Any], ...] = (
    ("is_shaped", library.Int),
    *((f"noise_tap_{i}", library.Float) for i in range(N_TAPS)),
    ("voiced_temperature", library.Float),
    ("noise", library.Floats),
    ("group_means", library.Floats),
)
"""Of C's `struct gru_shaping`, of native/loops/shaping.h."""


class Block(library.Struct):
    """C's `struct gru_block`, of native/loops/block.h."""

    _fields_ = (
        ("n_frames", library.Int),
        ("hop", library.Int),
        ("n_past", library.Int),
        ("gate_inputs", library.Floats),
        ("readout_inputs", library.Floats),
        ("coefficients", library.Floats),
        ("excitation_scale", library.Floats),
        ("signal_scale", library.Floats),
        ("lags", library.Int64s),
        ("uniforms", library.Floats),
        ("forced", library.Int64s),
        ("n_forced", library.Int),
        ("temperature", library.Float),
        ("tail_cut", library.Float),
        *_SHAPING_FIELDS,
        ("hidden", library.Floats),
        ("codes", library.Int64s),
        ("rebuilt", library.Floats),
        ("last_audio", library.Floats),
        ("probability", library.Floats),
        ("audio", library.Floats),
    )


def block_of(
    stream: StreamState, block: FrameBlock, draws: Draws, past: Past, out: FloatArray, group_means: FloatArray
) -> Block:
    """What a loop is given to write a block's samples to `out`; codes that are given are not shaped."""
    n_samples, n_forced = out.size, draws.forced.size
    return Block(
        n_frames=len(block),
        hop=n_samples // len(block),
        n_past=past.codes.size - n_samples,
        gate_inputs=block.gate_inputs,
        readout_inputs=block.readout_inputs,
        coefficients=block.filters.coefficients,
        excitation_scale=block.filters.excitation_scale,
        signal_scale=block.filters.signal_scale,
        lags=block.lags,
        uniforms=draws.uniforms,
        forced=draws.forced,
        n_forced=n_forced,
        temperature=draws.temperature,
        tail_cut=draws.tail_cut,
        is_shaped=draws.voiced.are_shaped and not n_forced,
        **{f"noise_tap_{i}": tap for i, tap in enumerate(draws.voiced.taps)},
        voiced_temperature=draws.temperature * draws.voiced.temperature,
        noise=stream.noise,
        group_means=group_means,
        hidden=stream.hidden,
        codes=past.codes,
        rebuilt=past.rebuilt,
        last_audio=stream.audio,
        probability=draws.probability if n_forced else np.empty_like(out),
        audio=out,
    )


class Loop(Protocol):
    """A compiled sample loop over one network's weights."""

    def __call__(
        self, stream: StreamState, block: FrameBlock, draws: Draws, past: Past, out: FloatArray
    ) -> None:
        """Generate a block's samples into `out` (T,), and write what `past` and the stream's `hidden` remember."""


class CompiledEngine:
    """Generates with a loop of the C core, without torch."""

    streams_at_once = groups_at_once = 1

    def __init__(self, config: Config, loop: Loop, own: VoiceSampling = UNCHANGED) -> None:
        """Run a loop over streams; `own` is what it draws with where nothing else is asked for."""
        self._config, self._loop, self.own = config, loop, own

    def start(self, n_streams: int) -> list[StreamState]:
        """The state of streams that have been silent for ever."""
        config = self._config
        return [
            StreamState(
                np.zeros(config.model.gru_size, np.float32),
                np.full(config.lag_max_samples, config.signal.n_classes // 2, np.int64),
                np.zeros(config.signal.lpc_order, np.float32),
            )
            for _ in range(n_streams)
        ]

    def generate(
        self,
        state: list[StreamState],
        blocks: Sequence[FrameBlock],
        uniforms: FloatArray,
        sampling: Sampling = PLAIN_SAMPLING,
    ) -> FloatArray:
        """Go on by one block of each stream; see `engine.Engine.generate`."""
        audio, temperature = np.empty(uniforms.shape, np.float32), sampling.temperature_of(self.own)
        for stream, block, row, out in zip(state, blocks, uniforms, audio, strict=True):
            if len(block):
                draws = Draws(row, temperature, sampling.tail_cut, voiced=self.own.voiced)
                self._advance(stream, block, draws, out)
        return audio

    def probabilities(self, block: FrameBlock, codes: npt.NDArray[np.int64]) -> FloatArray:
        """P of each given code (T,) under teacher forcing, from silence on: (T,)."""
        (stream,) = self.start(1)
        probability, out = np.empty((2, codes.size), np.float32)
        unused = np.zeros(codes.size, np.float32)
        self._advance(stream, block, Draws(unused, forced=codes, probability=probability), out)
        return probability

    def _advance(self, stream: StreamState, block: FrameBlock, draws: Draws, out: FloatArray) -> None:
        past = Past(
            np.concatenate([stream.codes, np.empty(out.size, np.int64)]),
            np.concatenate([stream.rebuilt, np.empty(out.size, np.float32)]),
        )
        self._loop(stream, block, draws, past, out)
        stream.codes, stream.rebuilt = past.codes[out.size :], past.rebuilt[out.size :]

    def in_step(self, ready: object, n_streams: int, sampling: Sampling) -> None:
        """It has no device of its own."""

    def export_state(self, state: list[StreamState]) -> dict[str, npt.NDArray[np.generic]]:
        """The state of one stream as arrays: a copy."""
        return {name: array.copy() for name, array in vars(state[0]).items()}

    def import_state(self, arrays: Mapping[str, npt.NDArray[np.generic]]) -> list[StreamState]:
        """The state that `export_state` gave, of this engine or of another.

        Raises:
            ConfigError: an array is missing or has another shape or type.
        """
        (state,) = self.start(1)
        require_saved(arrays, vars(state))
        for name, own in vars(state).items():
            own[...] = arrays[name]
        return [state]
