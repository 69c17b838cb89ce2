"""Spectral correction: what the network drew, brought nearer to the mel that was asked for.

A drawn sample is a little too loud here and too soft there, and noisy between the harmonics: the mel knows better, but
has no phase. So each frame of the audio is transformed, its bins are scaled until its mel meets the given one, with a
little more contrast, and the frames are overlapped and added. That is Griffin and Lim's iteration, begun at the
network's phase, with mel bands in place of bins; it goes several rounds over the newest frames alone, each time with
all that is known of their neighbours, so that a stream waits for a few frames once, and not for as many again with
every round. The low end of the spectrum, where the mel tells each harmonic, goes through many more, at a lower rate.

Source: Griffin & Lim, Signal estimation from modified short-time Fourier transform (1984); Zhu, Beauregard & Wyse,
Real-time signal estimation from modified short-time Fourier transform magnitude spectra (2007), for the rounds;
Perraudin, Balazs & Sondergaard, A fast Griffin-Lim algorithm (2013), for the low end's momentum.
Shapes: F frames, M mel bands, W samples of the analysis window.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from gru_audio.arrays import FloatArray, require_whole
from gru_audio.config import MelConfig
from gru_audio.errors import ConfigError
from gru_audio.native import library
from gru_audio.native.dense import padded
from gru_audio.signal.mel import to_linear
from gru_audio.synthesis.correction_plan import CorrectionPlan, delay_of, plan_of_contract

_MOST_ROUNDS = 100
DEFAULT_CORRECTIONS = 1
"""Rounds: each one raises PESQ less than the one before; see docs/correction.md."""
_WITHOUT_LOW_END = 2  # rounds of contracts that have none


class Corrections:
    """The correction of one stream; each frame comes back `delay` frames late. Any chunking gives the same samples.

    Attributes:
        n_rounds: with none the audio stays as it is, and nothing is late.
        delay: in frames.
    """

    def __init__(self, config: MelConfig, n_rounds: int) -> None:
        """Begin; see native/correction/correction.c for the arrays."""
        self._config, self.n_rounds, self.delay = config, n_rounds, 0
        if not n_rounds:
            return
        plan = self._plan = plan_of_contract(config)
        self.delay = delay_of(plan)

        def samples(hop: int, width: int) -> FloatArray:
            return np.zeros((plan.n_open - 1) * hop + width, np.float32)

        self._stream = _CorrectionStream(
            audio=np.zeros(plan.n_audio, np.float32),
            logs=np.zeros((self.delay + 1, padded(plan.n_mels)), np.float32),
            targets=np.zeros((plan.n_open, plan.n_mels), np.float32),
            valid=np.zeros(self.delay + 1, np.bool_),
            sums=samples(plan.hop, plan.width),
            weights=samples(plan.hop, plan.width),
            frames=np.zeros((plan.n_open, plan.width), np.float32),
            low_sums=samples(plan.low_hop, plan.low_width),
            low_weights=samples(plan.low_hop, plan.low_width),
            low_frames=np.zeros((plan.n_open, plan.low_width), np.float32),
            low_raw=np.zeros((plan.n_open, plan.low_width), np.float32),
        )
        self._scratch = library.aligned(_scratch_size(plan))
        self._scratch[...] = 0

    def push(self, audio: FloatArray, linear: FloatArray) -> FloatArray:
        """Take audio (F * hop,) and its mel (F, M) without the logarithm; return the audio that is corrected now."""
        if not self.n_rounds:
            return audio
        return self._run(np.array(audio, np.float32), linear, np.ones(len(linear), np.bool_))

    def finish(self) -> FloatArray:
        """The audio of the frames still under way; the stream is then over."""
        n_frames, config = self.delay, self._config
        if not n_frames:
            return np.zeros(0, np.float32)
        nothing = np.zeros(n_frames * config.hop_samples, np.float32)
        return self._run(
            nothing, np.zeros((n_frames, config.n_mels), np.float32), np.zeros(n_frames, np.bool_)
        )

    def export_state(self) -> dict[str, npt.NDArray[Any]]:
        """Copies of the arrays by which it goes on; their shapes and types follow from the contract."""
        return {name: array.copy() for name, array in self._stream.held.items()} if self.n_rounds else {}

    def import_state(self, state: dict[str, npt.NDArray[Any]]) -> None:
        """Go on from what `export_state` gave."""
        for name, array in state.items():
            self._stream.held[name][...] = array

    def _run(self, audio: FloatArray, linear: FloatArray, valid: npt.NDArray[np.bool_]) -> FloatArray:
        """Put frames through the rounds, in place; those that come out and are of the stream."""
        mels = np.ascontiguousarray(linear)
        _correct(self._plan, self._stream, self.n_rounds, len(valid), audio, mels, valid, self._scratch)
        return np.asarray(audio.reshape(-1, self._config.hop_samples)[valid].ravel(), np.float32)


def correct(audio: FloatArray, mel: FloatArray, config: MelConfig, n_rounds: int | None = None) -> FloatArray:
    """A whole clip's audio (F * hop,) brought nearer to its mel (F, M), by default as a vocoder does it."""
    corrections = Corrections(config, default_corrections(config) if n_rounds is None else n_rounds)
    return np.concatenate([corrections.push(audio, to_linear(mel, config)), corrections.finish()])


def default_corrections(config: MelConfig) -> int:
    """`DEFAULT_CORRECTIONS`, more where there is no low end, or none where a contract's windows overlap too little."""
    if config.window_samples < 2 * config.hop_samples:
        return 0
    return DEFAULT_CORRECTIONS if plan_of_contract(config).low_n_rounds else _WITHOUT_LOW_END


def check_corrections(config: MelConfig, n_rounds: int) -> int:
    """The frames of lookahead that the rounds take, the same for any number of them, once a contract allows them.

    Raises:
        ConfigError: no whole number, below 0 or over a hundred; or windows overlap too little to put audio together.
    """
    require_whole("corrections", n_rounds)
    if not 0 <= n_rounds <= _MOST_ROUNDS:
        raise ConfigError(f"corrections {n_rounds}: must be from 0 to {_MOST_ROUNDS}")
    if n_rounds and not default_corrections(config):
        raise ConfigError(
            f"corrections {n_rounds}: mel.window_samples ({config.window_samples}) is less than two hops of "
            f"{config.hop_samples}; only 0 is possible with this voice"
        )
    return delay_of(plan_of_contract(config)) if n_rounds else 0


class _CorrectionStream(library.Struct):
    """What one stream goes on with; see native/correction/correction_frame.h."""

    _fields_ = (
        ("audio", library.Floats),
        ("logs", library.Floats),
        ("targets", library.Floats),
        ("valid", library.Bools),
        *(
            (f"{part}{name}", library.Floats)
            for part in ("", "low_")
            for name in ("sums", "weights", "frames")
        ),
        ("low_raw", library.Floats),
    )


_scratch_size = library.function("gru_correction_scratch_size", [CorrectionPlan], library.Int)
_correct = library.function(
    "gru_correct",
    [
        *(CorrectionPlan, _CorrectionStream, library.Int, library.Int),
        *(library.Floats, library.Floats, library.Bools, library.Floats),
    ],
)
