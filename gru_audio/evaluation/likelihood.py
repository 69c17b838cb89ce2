"""How likely a voice holds a clip's own codes to be, under teacher forcing."""

from typing import Protocol, cast

import numpy as np
import numpy.typing as npt

from gru_audio.arrays import FloatArray
from gru_audio.evaluation.anchors import codec_input
from gru_audio.signal.codec import pre_emphasis, run_closed_loop
from gru_audio.synthesis.engines import make_engine
from gru_audio.synthesis.folding import can_compile, fold
from gru_audio.synthesis.frontend import ConditioningWeights, FrameBlock, whole_block
from gru_audio.voice.voice import Voice

_SMALLEST = 1e-12  # of a probability: 40 bits


class _ForcedEngine(Protocol):
    """An engine that tells the probability of given codes."""

    def probabilities(self, block: FrameBlock, codes: npt.NDArray[np.int64]) -> FloatArray:
        """P of each code (T,)."""


class Likelihood:
    """Rates clips by one voice with one of the compiled engines."""

    def __init__(self, voice: Voice, engine_name: str) -> None:
        """Fold the voice; an engine that is not compiled is stood in for by float32, the same model."""
        network = fold(voice)
        self._config, self._weights = voice.config, ConditioningWeights(voice, network)
        name = "float32" if engine_name == "torch" else engine_name
        _, engine = make_engine(name, network, "cpu")
        self._engine = cast(_ForcedEngine, engine)

    @classmethod
    def of(cls, voice: Voice, engine_name: str) -> "Likelihood | None":
        """None for a voice that no compiled engine can run."""
        return cls(voice, engine_name) if can_compile(voice.config) else None

    def bits(self, audio: FloatArray, mel: FloatArray) -> float:
        """Mean of -log2 P over the codes of audio (n,) whose mel is (F, M), which the codec makes without noise."""
        config = self._config
        block = whole_block(self._weights, mel)
        emphasised = pre_emphasis(codec_input(audio, len(mel), config.mel), config.signal.preemphasis)
        codes = run_closed_loop(emphasised, block.filters, config.signal).target.astype(np.int64)
        probability = self._engine.probabilities(block, codes)
        return float(-np.log2(np.maximum(probability, _SMALLEST)).mean())
