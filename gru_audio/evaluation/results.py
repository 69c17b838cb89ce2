"""What an evaluation found: figures of every clip by every system, and what the figures mean."""

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

VOICE, NETWORK, REFERENCE = "voice", "network", "reference"
G722, GRIFFIN_LIM, CODEC = "g722", "griffin-lim", "codec"
SYSTEMS = (VOICE, NETWORK, G722, GRIFFIN_LIM, CODEC, REFERENCE)
"""Every system in the order of a table; the network is the voice without the spectral correction. The reference has
only figures that need no reference."""


@dataclass(frozen=True)
class Measure:
    """A column.

    Attributes:
        key: name in `ClipResult.figures` and in JSON.
        title: for people.
        unit: of the figure; empty where it has none.
        higher_is_better: None where the best is 0, on either side of which it is worse.
        source: the definition's, in words.
    """

    key: str
    title: str
    unit: str
    higher_is_better: bool | None
    source: str

    def worst(self, figures: Iterable[float]) -> float:
        """The worst of one or more figures."""
        if self.higher_is_better is None:
            return max(figures, key=abs)
        return min(figures) if self.higher_is_better else max(figures)


@dataclass(frozen=True)
class ClipResult:
    """What one system made of one clip.

    Attributes:
        name: the clip's, unique in the evaluation.
        speaker: who speaks; empty where that is not known.
        system: one of `SYSTEMS`.
        figures: by a measure's key; a measure that could not be computed for this clip is absent.
        duration_s: of the clip.
    """

    name: str
    speaker: str
    system: str
    figures: dict[str, float]
    duration_s: float


@dataclass(frozen=True)
class MeasureSummary:
    """One measure over several clips."""

    mean: float
    median: float
    worst: float
    n_clips: int


@dataclass(frozen=True)
class Evaluation:
    """All that an evaluation found.

    Attributes:
        voice: the voice's metadata.
        settings: how it was run: voice, clips' source, engine, seed, temperature.
        measures: the columns, in order; those that could not be computed at all are not among them.
        missing: a column or system that was left out, and what to install for it.
        notes: what was left out of single clips, one line for each reason.
        clips: one result for each clip and system, clips in order, each with the systems in order.
    """

    voice: Mapping[str, Any]
    measures: tuple[Measure, ...]
    missing: tuple[tuple[str, str], ...]
    clips: tuple[ClipResult, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def systems(self) -> list[str]:
        """Those that made anything, in the order of a table."""
        present = {clip.system for clip in self.clips}
        return [system for system in SYSTEMS if system in present]

    @property
    def speakers(self) -> list[str]:
        """Everyone who speaks, sorted."""
        return sorted({clip.speaker for clip in self.clips})

    def summary(self, system: str) -> dict[str, MeasureSummary]:
        """Mean, median and worst of a system's clips by a measure's key; a key without figures is absent."""
        return self._summarise([clip for clip in self.clips if clip.system == system])

    def by_speaker(self, system: str) -> dict[str, dict[str, MeasureSummary]]:
        """The same for each speaker's clips alone."""
        return {
            speaker: self._summarise(
                [clip for clip in self.clips if (clip.system, clip.speaker) == (system, speaker)]
            )
            for speaker in self.speakers
        }

    def _summarise(self, clips: list[ClipResult]) -> dict[str, MeasureSummary]:
        summaries = {}
        for measure in self.measures:
            figures = [clip.figures[measure.key] for clip in clips if measure.key in clip.figures]
            if figures:
                summaries[measure.key] = MeasureSummary(
                    statistics.fmean(figures),
                    statistics.median(figures),
                    measure.worst(figures),
                    len(figures),
                )
        return summaries
