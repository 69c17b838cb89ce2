"""The ways in which tools store a band's size."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from gru_audio.config import MelConfig
from gru_audio.signal.mel import log_unit

_POWERS_MARGIN = 9.0  # twice that of any recording: a short, lively one at full scale comes near to it


@dataclass(frozen=True)
class Storage:
    """One way to store a band's size.

    Attributes:
        name: for the user.
        changes: the fields in which a contract that stores so differs from the voice's.
        mend: what to do where no contract says it.
        is_near: loud, clipped speech comes near to it, so that more is asked for.
        margin: by how much better than the voice's own it must fit.
    """

    name: str
    changes: dict[str, Any]
    mend: str = ""
    is_near: bool = False
    margin: float = 1.0


def storages_of(config: MelConfig) -> list[Storage]:
    power = config.spectrum_power
    other = "powers" if power == 1 else "magnitudes"
    found = [
        Storage("natural logarithms", {"log": "ln", "scale": 1.0, "offset": 0.0}),
        Storage("log10", {"log": "log10", "scale": 1.0, "offset": 0.0}),
        Storage("decibels", {"log": "db", "scale": 1.0, "offset": 0.0}),
        Storage("decibels with 100 added", {"log": "db", "scale": 1.0, "offset": 100.0}),
        Storage("decibels mapped to [0, 1]", {"log": "db", "scale": 0.01, "offset": 1.0}),
        Storage("decibels mapped to [-4, 4]", {"log": "db", "scale": 0.08, "offset": 2.4}, is_near=True),
        Storage("log10 of powers as Whisper maps it", {"log": "log10", "scale": 0.5 / power, "offset": 1.0}),
        Storage(
            f"logarithms of {other}",
            {"scale": config.scale * (2 if power == 1 else 0.5)},
            margin=_POWERS_MARGIN,
        ),
        Storage(
            "made from samples as 16-bit integers",
            {
                "offset": round(
                    config.offset + power * config.scale * float(np.log(32768)) / log_unit(config), 4
                )
            },
        ),
    ]
    return [one for one in found if line_of(config.model_copy(update=one.changes)) != line_of(config)]


def line_of(config: MelConfig) -> tuple[float, float]:
    """Factor and offset from the natural logarithm to what is stored."""
    return config.scale / log_unit(config), config.offset


SIZES = Storage("sizes without a logarithm", {}, "take their logarithm first")
NORMALISED = Storage(
    "bands brought to mean 0 and deviation 1", {}, "undo that first, with the table that it was done with"
)
