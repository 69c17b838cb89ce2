"""Spectral correction: what the network drew, brought nearer to the mel that was asked for.

A drawn sample is a little too loud here and too soft there, and noisy between the harmonics: the mel knows better,
but has no phase. So each frame of the audio is transformed, its bins are scaled until its mel meets the given one,
and the frames are overlapped and added, a few times over: Griffin and Lim's iteration, begun at the network's phase
and stopped early.

Source: Griffin & Lim, Signal estimation from modified short-time Fourier transform (1984), with mel bands in place
of bins. Shapes: F frames, M mel bands, N bins, W samples of the analysis window.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.fft

from gru_audio.config import MelConfig
from gru_audio.errors import ConfigError
from gru_audio.mel import FloatArray, analysis_window, filterbank, to_linear
from gru_audio.synthesis.correction_kernels import correct_spectra, overlap_add

DEFAULT_CORRECTIONS = 3
"""Passes: each one raises PESQ less than the one before, and needs more lookahead."""

_EXPONENT = (
    1.5  # of a band's gain: a bin's is a mean over bands and overlapping frames, so that 1 falls short
)
_LIMIT = 6.0  # 15.6 dB: what is missing by more is not brought up from noise at once
_SMALLEST_WEIGHT = 1e-3  # of the windows' squares over a sample; under it the sample stays as it is


class Frames(NamedTuple):
    """Frames of a stream.

    Attributes:
        audio: (F * hop,).
        targets: (F, M), the linear mel that the audio should have.
        valid: (F,), False before the stream's first frame and after its last.
    """

    audio: FloatArray
    targets: FloatArray
    valid: npt.NDArray[np.bool_]


class Correction:
    """One pass over a stream; each frame comes back `delay` frames late. Any chunking gives the same samples."""

    def __init__(self, config: MelConfig) -> None:
        """Begin: before the stream there are `delay` frames that are not valid."""
        plan, hop = _plan(config), config.hop_samples
        self._config, self._plan, self.delay = config, plan, plan.delay
        n_history, n_open = plan.held * hop + plan.before, plan.window.size - hop
        self._state: dict[str, npt.NDArray[Any]] = {
            "audio": np.zeros(
                n_history, np.float32
            ),  # from the window of the oldest frame not yet transformed on
            "targets": np.zeros((plan.delay, config.n_mels), np.float32),
            "valid": np.zeros(plan.delay, np.bool_),
            "sums": np.zeros(n_open, np.float32),  # from there on, what frames have added already
            "weights": np.zeros(n_open, np.float32),
            "done": np.zeros(plan.delay * hop - n_history, np.float32),  # waits for the rest of its frame
        }

    def push(self, frames: Frames) -> Frames:
        """Take the next F frames, and give the F frames of `delay` before, corrected."""
        n_frames, hop, plan = len(frames.valid), self._config.hop_samples, self._plan
        if not n_frames:
            return frames
        fresh = np.zeros(n_frames * hop, np.float32)
        new = {**frames._asdict(), "sums": fresh, "weights": fresh}
        state = {name: np.concatenate([self._state[name], array]) for name, array in new.items()}
        oldest = plan.delay - plan.held  # of the frames whose windows are full now
        stretch = slice(oldest, oldest + n_frames)
        windows = np.lib.stride_tricks.sliding_window_view(state["audio"], plan.window.size)[::hop][:n_frames]
        corrected = self._correct(windows * plan.window, state["targets"][stretch])
        overlap_add(corrected, state["valid"][stretch], plan.window, hop, state["sums"], state["weights"])
        sums, weights, before = (state[name][: fresh.size] for name in ("sums", "weights", "audio"))
        covered = weights > _SMALLEST_WEIGHT
        now = np.where(covered, sums / np.maximum(weights, _SMALLEST_WEIGHT), before)
        state["done"] = np.concatenate([self._state["done"], now])
        for name, array in state.items():
            self._state[name] = array[len(array) - len(self._state[name]) :].copy()
        return Frames(state["done"][: fresh.size], state["targets"][:n_frames], state["valid"][:n_frames])

    def export_state(self) -> dict[str, npt.NDArray[Any]]:
        """Copies of the arrays by which a pass goes on; their shapes and types follow from the contract."""
        return {name: array.copy() for name, array in self._state.items()}

    def import_state(self, state: dict[str, npt.NDArray[Any]]) -> None:
        """Go on from what `export_state` gave."""
        self._state = state

    def _correct(self, windows: FloatArray, targets: FloatArray) -> FloatArray:
        """Windowed frames (F, W) with their mel brought nearer to the targets."""
        config, plan = self._config, self._plan
        spectra = scipy.fft.rfft(windows, config.n_fft, axis=1)  # (F, N)
        is_power = config.spectrum == "power"
        exponent = _EXPONENT / 2 if is_power else _EXPONENT
        correct_spectra(
            spectra, targets, plan.filters, plan.first_bins, plan.shares, is_power, exponent, _LIMIT
        )
        return np.ascontiguousarray(scipy.fft.irfft(spectra, config.n_fft, axis=1)[:, : plan.window.size])


class Corrections:
    """Passes one after the other; none at all gives the audio as it is."""

    def __init__(self, config: MelConfig, n_passes: int) -> None:
        """Begin."""
        self.passes = [Correction(config) for _ in range(n_passes)]
        self._config = config

    def push(self, audio: FloatArray, mel: FloatArray) -> FloatArray:
        """Take audio (F * hop,) and its mel (F, M) under the contract; give the audio that is corrected now."""
        if not self.passes:
            return audio
        return self._run(Frames(audio, to_linear(mel, self._config), np.ones(len(mel), np.bool_)))

    def finish(self) -> FloatArray:
        """The audio of the frames still under way; the stream is over then."""
        n_frames, config = sum(one.delay for one in self.passes), self._config
        nothing = np.zeros(n_frames * config.hop_samples, np.float32)
        targets = np.zeros((n_frames, config.n_mels), np.float32)
        return self._run(Frames(nothing, targets, np.zeros(n_frames, np.bool_)))

    def _run(self, frames: Frames) -> FloatArray:
        for one in self.passes:
            frames = one.push(frames)
        return np.asarray(
            frames.audio.reshape(-1, self._config.hop_samples)[frames.valid].ravel(), np.float32
        )


def correct(audio: FloatArray, mel: FloatArray, config: MelConfig, n_passes: int | None = None) -> FloatArray:
    """A whole clip's audio (F * hop,) brought nearer to its mel (F, M), by default as a vocoder does it."""
    corrections = Corrections(config, default_corrections(config) if n_passes is None else n_passes)
    return np.concatenate([corrections.push(audio, mel), corrections.finish()])


def default_corrections(config: MelConfig) -> int:
    """`DEFAULT_CORRECTIONS`, or none where a contract's windows overlap too little to put audio together from them."""
    return DEFAULT_CORRECTIONS if config.window_samples >= 2 * config.hop_samples else 0


def check_corrections(config: MelConfig, n_passes: int) -> int:
    """The frames of lookahead that passes take, once it is certain that a contract allows them.

    Raises:
        ConfigError: fewer than none; or windows overlap too little to put audio together from them.
    """
    if n_passes < 0:
        raise ConfigError(f"corrections {n_passes}: must be at least 0")
    if n_passes and not default_corrections(config):
        raise ConfigError(
            f"corrections {n_passes}: mel.window_samples ({config.window_samples}) is less than two hops of "
            f"{config.hop_samples}; only 0 is possible with this voice"
        )
    return n_passes * _plan(config).delay if n_passes else 0


class _Plan(NamedTuple):
    """What a contract's passes share; see `correct_spectra` for its arrays.

    Attributes:
        window: (W,), the analysis window without the zeros around it.
        before: samples by which a frame's window begins before the frame's own stretch.
        held: frames after its own that a frame's window reaches into.
        delay: frames from audio in to audio out.
    """

    window: FloatArray
    filters: FloatArray
    first_bins: npt.NDArray[np.int64]
    shares: FloatArray
    before: int
    held: int
    delay: int


@lru_cache(maxsize=8)
def _plan(config: MelConfig) -> _Plan:
    hop, width, bank = config.hop_samples, config.window_samples, filterbank(config)
    first_of_window = (config.n_fft - width) // 2
    before = (config.n_fft - hop) // 2 - first_of_window
    held = -(-(width - before - hop) // hop)
    length = max(1, int((bank > 0).sum(1).max()))
    first_bins = np.minimum((bank > 0).argmax(1), bank.shape[1] - length)
    columns = first_bins[:, None] + np.arange(length)
    shares = bank / np.maximum(bank.sum(0), np.finfo(np.float32).tiny)
    return _Plan(
        window=analysis_window(config)[first_of_window : first_of_window + width],
        filters=np.take_along_axis(bank, columns, 1),
        first_bins=first_bins,
        shares=np.take_along_axis(shares, columns, 1),
        before=before,
        held=held,
        delay=held + -(-before // hop),
    )
