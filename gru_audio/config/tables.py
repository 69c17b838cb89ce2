"""The settings: typed, frozen and strict; TOML in, TOML out.

A config has one table for each part of the tool: `[mel]` (the contract between a mel's maker and the
vocoder), `[signal]`, `[model]`, `[prep]` and `[train]`. Every number is written once; what follows
from it is a property. Unknown keys and bad values are errors that name the file, the table and the key.
"""

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from gru_audio.config.bounds import Fraction, Range, Seconds, Share, Size, Table
from gru_audio.config.mel import MelConfig
from gru_audio.config.training import TrainConfig

GATES = {"gru": 3, "lstm": 4, "rnn": 1}
"""Of a cell: how many rows its weight matrices have to a unit."""

CONTEXT_FRAMES = 2
"""Mel frames that the conditioner needs before and after the frame it describes."""

_LAG_BINS_PER_OCTAVE = 24


class SignalConfig(Table):
    """What signal processing does before and after the network (docs/design.md, 1)."""

    preemphasis: Fraction = 0.85
    """Of the signal that the network models: s[t] = x[t] - preemphasis x[t - 1]."""
    lpc_order: Annotated[int, Field(ge=0, le=32)] = 16
    """Order of the linear prediction; 0 turns it, gain normalisation and the long-term tap off."""
    bits: Annotated[int, Field(ge=6, le=10)] = 8
    """Bits of a mu-law code; the network chooses among 2**bits classes."""
    excitation_range: Range = 8.0
    """Full scale of the mu-law excitation, in units of the frame's prediction-error RMS."""
    signal_range: Range = 6.0
    """Full scale of the signal and prediction inputs, in units of the frame's signal RMS."""
    pitch_min_hz: Annotated[float, Field(ge=10, le=4_000)] = 50.0
    """The lowest pitch that is looked for; its lag is the longest."""
    pitch_max_hz: Annotated[float, Field(ge=15, le=6_000)] = 500.0
    """The highest pitch that is looked for."""

    @model_validator(mode="after")
    def _fits_together(self) -> "SignalConfig":
        if self.pitch_min_hz * 1.5 > self.pitch_max_hz:
            raise ValueError(
                f"pitch_max_hz ({self.pitch_max_hz:g}) must be at least 1.5 times pitch_min_hz ({self.pitch_min_hz:g})"
            )
        return self

    @property
    def n_classes(self) -> int:
        """Q, the number of mu-law codes."""
        return 1 << self.bits


class ModelConfig(Table):
    """The network's shape (docs/design.md, 2)."""

    cell: Literal["gru", "lstm", "rnn"] = "gru"
    """The recurrent cell; the compiled engines run a gru."""
    output: Literal["tree", "softmax"] = "tree"
    """How the distribution over codes is made: yes/no questions down a tree, or one softmax."""
    gru_size: Size = 384
    """H, the size of the recurrent state, whichever the cell."""
    conditioning_size: Size = 128
    """C, the size of the conditioning vector and of the embeddings that are added to it."""
    readout_size: Size = 128
    """R, the size of the layer between the recurrent state and the output."""
    pitch_size: Size = 128
    """The size of the pitch head's layers."""
    samples_per_step: Literal[1, 2, 4] = 1
    """S, samples generated for each step of the recurrent cell."""
    recurrent_density: Annotated[tuple[Share, Share, Share], Field(strict=False)] = (1.0, 1.0, 1.0)
    """Share of the recurrent weights' blocks that are kept, for a GRU's reset, update and new gate; see blocks.py."""
    readout_density: Share = 1.0
    """Share of the blocks of the readout's weights of the state that are kept: 0.25, 0.5, 0.75, or 1 for all."""

    @model_validator(mode="after")
    def _fits_together(self) -> "ModelConfig":
        if self.cell != "gru" and self.has_pruned_gates:
            raise ValueError(
                f"recurrent_density is for a gru's three gates; leave it out for cell '{self.cell}'"
            )
        if self.readout_density * 4 % 1:
            raise ValueError(f"readout_density ({self.readout_density:g}) must be 0.25, 0.5, 0.75 or 1")
        return self

    @property
    def has_pruned_gates(self) -> bool:
        """Some blocks of the recurrent weights are to go."""
        return self.recurrent_density != (1.0, 1.0, 1.0)

    @property
    def is_pruned(self) -> bool:
        """Some blocks of the recurrent weights, or of the readout's, are to go."""
        return self.has_pruned_gates or self.readout_density < 1


class PrepConfig(Table):
    """How `prep` treats audio."""

    trim_db: Annotated[float, Field(ge=0, le=200)] = 45.0
    """Leading and trailing audio this far below the clip's loudest frame is silence; 0: no trimming."""
    trim_margin_s: Seconds = 0.1
    """Silence that is left at both ends."""
    loudness_lufs: Annotated[float, Field(ge=-70, le=0)] = 0.0
    """Integrated loudness (ITU-R BS.1770) that every clip is brought to; 0: as it is."""
    min_duration_s: Seconds = 1.0
    """Shorter clips are padded with silence, equally at both ends."""
    longest_s: Seconds = 15.0
    """Longer recordings are cut at pauses into clips from 2 s to this; 0: never. See cutting.py."""
    split_by: Literal["clip", "speaker"] = "clip"
    """Whether clips or whole speakers are held out."""
    valid_fraction: Fraction = 0.05
    """The share that is held out for validation during training."""
    test_fraction: Fraction = 0.05
    """The share that is held out for `evaluate`."""

    @model_validator(mode="after")
    def _fits_together(self) -> "PrepConfig":
        if 0 < self.longest_s < 4:
            raise ValueError(
                f"longest_s ({self.longest_s:g}) must be at least 4, or 0 for recordings as they are"
            )
        if self.valid_fraction + self.test_fraction >= 1:
            raise ValueError(
                f"valid_fraction + test_fraction ({self.valid_fraction:g} + {self.test_fraction:g}) must be below 1"
            )
        return self


class Config(Table):
    """All settings of a dataset, a run or a voice."""

    mel: MelConfig = MelConfig()
    signal: SignalConfig = SignalConfig()
    model: ModelConfig = ModelConfig()
    prep: PrepConfig = PrepConfig()
    train: TrainConfig = TrainConfig()

    @model_validator(mode="after")
    def _fits_together(self) -> "Config":
        hop, rate = self.mel.hop_samples, self.mel.sample_rate_hz
        if hop % self.model.samples_per_step:
            raise ValueError(
                f"mel.hop_samples ({hop}) must be a multiple of model.samples_per_step "
                f"({self.model.samples_per_step})"
            )
        train = self.train.in_whole_frames(hop)
        object.__setattr__(self, "train", train)  # frozen, but still being made
        if self.model.is_pruned and not train.prune_start_step < train.prune_end_step <= train.steps:
            raise ValueError(
                f"train.prune_start_step ({train.prune_start_step}) < train.prune_end_step "
                f"({train.prune_end_step}) <= train.steps ({train.steps}) must hold where "
                "model.recurrent_density or model.readout_density is below 1"
            )
        if self.signal.pitch_max_hz * 8 > rate:
            raise ValueError(
                f"signal.pitch_max_hz ({self.signal.pitch_max_hz:g}) must be at most an eighth of the sample rate "
                f"({rate})"
            )
        return self

    @property
    def lag_min_samples(self) -> int:
        """Shortest pitch lag."""
        return round(self.mel.sample_rate_hz / self.signal.pitch_max_hz)

    @property
    def lag_max_samples(self) -> int:
        """Longest pitch lag."""
        return round(self.mel.sample_rate_hz / self.signal.pitch_min_hz)

    @property
    def n_lag_bins(self) -> int:
        """Among how many lags the pitch head chooses, evenly spaced in log lag from the shortest to the longest."""
        return round(_LAG_BINS_PER_OCTAVE * math.log2(self.lag_max_samples / self.lag_min_samples)) + 1

    @property
    def run_in_samples(self) -> int:
        """The closed loop's run-in before a crop, in whole frames and at least the longest pitch lag."""
        hop = self.mel.hop_samples
        wanted = max(round(self.train.run_in_s * self.mel.sample_rate_hz), self.lag_max_samples)
        return -(-wanted // hop) * hop

    @property
    def n_outputs(self) -> int:
        """Values that the network gives for a sample: Q - 1 nodes of a tree, or Q classes of a softmax."""
        return self.signal.n_classes - (self.model.output == "tree")

    @property
    def table_counts(self) -> tuple[int, int]:
        """How many code tables feed a recurrent step, and how many the readout of a sample."""
        stride = self.model.samples_per_step
        return (2 * stride + 2, stride + 3) if self.signal.lpc_order else (stride, stride)
