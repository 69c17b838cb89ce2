"""How codes are drawn: what a caller asks for, and what a voice was found to sound best with."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from gru_audio.arrays import require_real, require_whole
from gru_audio.errors import CheckpointError, ConfigError
from gru_audio.names import shown
from gru_audio.voice.voice import SAMPLING

DEFAULT_TEMPERATURE = 0.8
"""Of voices that name none; of those measured, the best in PESQ."""

N_TAPS = 3
MEAN_BITS = 4
"""The mean of a distribution is taken over its first so many bits: 16 groups of neighbouring codes."""


@dataclass(frozen=True)
class Sampling:
    """How the codes of a stream are drawn.

    Attributes:
        seed: the same seed gives the same samples.
        temperature: above 0 and at most 10; see `distribution.probabilities`. None: the voice's own.
        tail_cut: from 0 to below 0.5; choices less likely are never made.
    """

    seed: int = 0
    temperature: float | None = None
    tail_cut: float = 0.0

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ConfigError: one is no number of its kind, or out of range.
        """
        require_whole("seed", self.seed)
        if self.temperature is not None:
            require_real("temperature", self.temperature)
        require_real("tail_cut", self.tail_cut)
        if self.seed < 0:
            raise ConfigError(f"seed {self.seed}: must be at least 0")
        if self.temperature is not None and not 0 < self.temperature <= 10:
            raise ConfigError(f"temperature {self.temperature:g}: must be above 0 and at most 10")
        if not 0 <= self.tail_cut < 0.5:
            raise ConfigError(f"tail_cut {self.tail_cut:g}: must be at least 0 and below 0.5")

    @classmethod
    def chosen(cls, sampling: "Sampling", seed: int | None) -> "Sampling":
        """A caller's sampling with the seed that it names beside; None changes nothing.

        Raises:
            ConfigError: it is none, or the seed is not one.
        """
        if not isinstance(sampling, cls):
            raise ConfigError(
                f"sampling {shown(repr(sampling))}: not a gru_audio.Sampling; name what it is, such as seed=0"
            )
        return sampling if seed is None else replace(sampling, seed=seed)

    def temperature_of(self, own: "VoiceSampling") -> float:
        """The temperature with which a voice is drawn."""
        return own.temperature if self.temperature is None else self.temperature


PLAIN_SAMPLING = Sampling()
"""With nothing asked for."""


class VoicedDraws(NamedTuple):
    """What is different where a frame is voiced.

    The deviation of a drawn excitation from the mean of its distribution is noise, w[t]. Where it is white, it fills
    the gaps between the low harmonics. So it is coloured before it is quantised:

        e[t] = mean + w[t] - taps[0] w[t - 1] - taps[1] w[t - 2] - taps[2] w[t - 3]

    Attributes:
        temperature: factor of the temperature.
        taps: of the noise's past; with zeros alone the code is the one drawn.
    """

    temperature: float = 1.0
    taps: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def are_shaped(self) -> bool:
        """Whether the noise is coloured at all."""
        return any(self.taps)


PLAIN = VoicedDraws()
"""All frames alike."""


@dataclass(frozen=True)
class VoiceSampling:
    """What a voice is drawn with where nothing else is asked for.

    Attributes:
        temperature: of unvoiced frames.
        voiced: of the others.
    """

    temperature: float = DEFAULT_TEMPERATURE
    voiced: VoicedDraws = PLAIN

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> "VoiceSampling":
        """Of a voice's metadata; the defaults where they tell nothing.

        Raises:
            CheckpointError: they tell something else than `told` does.
        """
        found = metadata.get(SAMPLING)
        if found is None:
            return cls()
        try:
            temperature, factor = float(found["temperature"]), float(found["voiced_temperature_factor"])
            first, second, third = (float(tap) for tap in found["noise_taps"])
            fits = 0 < temperature <= 10 and 0 < factor <= 10 and max(map(abs, (first, second, third))) <= 1
        except (KeyError, TypeError, ValueError, OverflowError):
            fits = False
        if not fits or not math.isfinite(temperature):
            raise CheckpointError(
                f"its metadata's '{SAMPLING}' is not one that gru-audio writes; export it again"
            )
        return cls(temperature, VoicedDraws(factor, (first, second, third)))

    def told(self) -> dict[str, Any]:
        """As a voice's metadata hold it."""
        return {
            "temperature": self.temperature,
            "voiced_temperature_factor": self.voiced.temperature,
            "noise_taps": list(self.voiced.taps),
        }


UNCHANGED = VoiceSampling(1.0)
"""The network's distribution as it is."""

CANDIDATES = (
    VoiceSampling(),
    VoiceSampling(1.0, VoicedDraws(0.6)),
    VoiceSampling(1.0, VoicedDraws(0.7, (0.6, 0.3, 0.0))),
    VoiceSampling(0.9, VoicedDraws(0.7, (0.6, 0.3, 0.0))),
    VoiceSampling(0.8, VoicedDraws(1.0, (0.6, 0.3, 0.0))),
    VoiceSampling(0.8, VoicedDraws(0.8, (0.6, 0.3, 0.0))),
    VoiceSampling(0.8, VoicedDraws(1.0, (0.4, 0.2, 0.1))),
    VoiceSampling(1.0, VoicedDraws(0.7, (0.4, 0.2, 0.1))),
)
"""What a finished run's voice is tried with."""
