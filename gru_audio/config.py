"""The settings: typed, frozen and strict; TOML in, TOML out.

A config has one table for each part of the tool: `[mel]` (the contract between a mel's maker and the
vocoder), `[signal]`, `[model]`, `[prep]` and `[train]`. Every number is written once; what follows
from it is a property. Unknown keys and bad values are errors that name the file, the table and the key.
"""

import difflib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from gru_audio.documents import DocumentError, parse_toml, read_text
from gru_audio.errors import ConfigError
from gru_audio.files import why_no_file
from gru_audio.mel_config import MEL_PRESETS, Fraction, MelConfig, Positive, PositiveFloat, Table

__all__ = [
    "ALL_TABLES",
    "CONTEXT_FRAMES",
    "MEL_PRESETS",
    "PREP_TABLES",
    "Config",
    "MelConfig",
    "ModelConfig",
    "PrepConfig",
    "SignalConfig",
    "Stage",
    "TrainConfig",
    "config_from_dict",
    "load_config",
    "load_mel_config",
    "preset_names",
    "to_toml",
    "with_overrides",
]

NonNegative = Annotated[int, Field(ge=0, le=1_000_000_000)]
Share = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(gt=0, le=1_000_000)]
Size = Annotated[int, Field(gt=0, le=8_192)]
Seconds = Annotated[float, Field(ge=0, le=3_600)]
Range = Annotated[float, Field(ge=0.01, le=1_000)]
Rate = Annotated[float, Field(gt=0, le=10)]

CONTEXT_FRAMES = 2
"""Mel frames that the conditioner needs before and after the frame it describes."""

_LAG_BINS_PER_OCTAVE = 24
_LARGEST_BYTES = 1 << 20  # of a config file
_LONGEST_SHOWN = 200  # letters of a wrong value


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

    @model_validator(mode="after")
    def _fits_together(self) -> "ModelConfig":
        if self.cell != "gru" and self.is_pruned:
            raise ValueError(
                f"recurrent_density is for a gru's three gates; leave it out for cell '{self.cell}'"
            )
        return self

    @property
    def is_pruned(self) -> bool:
        """Some blocks of the recurrent weights are to go."""
        return self.recurrent_density != (1.0, 1.0, 1.0)


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


class Stage(Table):
    """How large batches are from one step of a run on."""

    from_step: NonNegative
    """How many steps are done before its first."""
    batch_size: Annotated[int, Field(gt=0, le=1_000_000)]
    """B, crops a step."""
    crop_samples: Annotated[int, Field(gt=0, le=10_000_000)]
    """T, samples of each crop; a multiple of the hop."""


class TrainConfig(Table):
    """How `train` learns (docs/design.md, 2)."""

    steps: Positive = 100_000
    """Optimiser steps."""
    batch_size: Annotated[int, Field(gt=0, le=1_000_000)] = 32
    """B, crops a step, until the first of `stages`."""
    crop_samples: Annotated[int, Field(gt=0, le=10_000_000)] = 1600
    """T, samples of each training crop: the nearest whole number of mel frames is taken."""
    stages: Annotated[tuple[Stage, ...], Field(strict=False, max_length=1_000)] = ()
    """Later batches, where they change: each stage's, in the order of the steps at which they begin."""
    run_in_s: Annotated[float, Field(ge=0, le=10)] = 0.05
    """How long before the crop the closed loop starts."""
    code_noise: Annotated[int, Field(ge=0, le=127)] = 3
    """Largest number of steps by which an excitation code is moved at random, before it enters the history."""
    speaker_balance: Annotated[float, Field(ge=0, le=1)] = 0.0
    """How far crops are shared evenly among speakers: 0 by their minutes, 1 the same for each; .5 by the root."""
    given_mel_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Of clips that have a given mel (`prep --mels`), how many crops use it, and not the recording's own; those are
    not augmented. Validation uses it unless this is 0."""
    augment_gain_db: Annotated[tuple[float, float], Field(strict=False)] = (0.0, 0.0)
    """Lowest and highest gain of a crop, evenly in between; never over full scale. See augmentation.py."""
    augment_polarity: bool = False
    """Turn half of the crops upside down."""
    augment_filter_db: Annotated[float, Field(ge=0, le=20)] = 0.0
    """RMS of the random, smooth curve by which a crop is filtered."""
    augment_speed: Annotated[float, Field(ge=0, le=0.3)] = 0.0
    """Largest share by which a crop is played faster or slower, its pitch and formants with it."""
    learning_rate: Rate = 1e-3
    """The highest rate, after the warm-up."""
    learning_rate_schedule: Literal["cosine", "decay"] = "cosine"
    """After the warm-up: half a cosine over all steps, or constant until a decay at the end."""
    decay_share: Share = 0.2
    """The share of all steps over which a schedule `decay` falls."""
    warm_up_steps: NonNegative = 200
    """Steps over which the learning rate rises from 0."""
    final_learning_rate: Rate = 5e-5
    """The rate at the last step."""
    weight_decay: Annotated[float, Field(ge=0, le=100)] = 0.01
    """AdamW's, of matrices alone."""
    gradient_clip: PositiveFloat = 1.0
    """The largest norm of the whole gradient."""
    average_decay: Fraction = 0.999
    """Decay of the moving average of the weights."""
    pitch_handover_step: NonNegative = 50_000
    """From this step on the network sees the pitch head's own estimates in place of labels."""
    prune_start_step: Positive = 10_000
    """Where model.recurrent_density is below 1: the step from which on blocks of recurrent weights go."""
    prune_end_step: Positive = 50_000
    """The step at which the density is reached and the blocks that are left are settled."""
    prune_every: Positive = 100
    """Steps from one choice of the blocks to the next."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Of the autocast; auto: bf16 where the device has it, else fp16 on a GPU and fp32 on a CPU."""
    workers: Annotated[int, Field(ge=0, le=1_024)] = 1
    """Processes that prepare batches; 0 prepares them in the training process."""
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    """Of the first weights and of every crop."""
    log_every: Positive = 20
    """Steps between two lines of training figures."""
    valid_every: Positive = 500
    """Steps between two validations under teacher forcing."""
    valid_crops: Count = 64
    """Crops that these are made on."""
    free_running_every: NonNegative = 5_000
    """Steps from one free-running validation to the next, and at the last step; 0: never."""
    free_running_clips: Count = 6
    """Held-out clips that these are made on."""
    patience: NonNegative = 0
    """Stop after so many free runs in a row that were no better than the best before; 0: do all steps."""
    checkpoint_every: Positive = 500
    """Steps between two checkpoints."""
    checkpoints_kept: Positive = 3
    """How many stay."""
    max_bad_steps: Positive = 10
    """Steps in a row without a finite loss and gradient after which the run has diverged; each changes no weight."""
    spike_bits: PositiveFloat = 1.0
    """It has diverged, too, where the mean training loss of the last steps exceeds the long mean by more bits."""
    max_returns: NonNegative = 3
    """How often a run that diverged goes back to its last checkpoint, with half the learning rate, before it stops."""

    @model_validator(mode="after")
    def _gains_ascend(self) -> "TrainConfig":
        low_db, high_db = self.augment_gain_db
        if not -60 <= low_db <= high_db <= 20:
            raise ValueError(
                f"augment_gain_db ([{low_db:g}, {high_db:g}]) must be a lowest and a highest gain from -60 to 20"
            )
        return self

    @model_validator(mode="after")
    def _stages_ascend(self) -> "TrainConfig":
        begins = [stage.from_step for stage in self.all_stages]
        if sorted(set(begins)) != begins:
            raise ValueError(
                f"stages begin at steps {begins[1:]}; write them in order, each once, and the first batches as "
                "batch_size and crop_samples"
            )
        return self

    @property
    def all_stages(self) -> tuple[Stage, ...]:
        """The first batches and those of `stages`."""
        first = Stage(from_step=0, batch_size=self.batch_size, crop_samples=self.crop_samples)
        return first, *self.stages

    def without_augmentation(self) -> "TrainConfig":
        """These settings with crops as they were recorded."""
        names = [name for name in TrainConfig.model_fields if name.startswith("augment_")]
        return self.model_copy(update={name: TrainConfig.model_fields[name].default for name in names})

    def in_whole_frames(self, hop_samples: int) -> "TrainConfig":
        """These settings with each crop the nearest whole number of hops, at least one."""

        def whole(n_samples: int) -> int:
            return max(1, (2 * n_samples + hop_samples) // (2 * hop_samples)) * hop_samples

        stages = tuple(
            stage.model_copy(update={"crop_samples": whole(stage.crop_samples)}) for stage in self.stages
        )
        return self.model_copy(update={"crop_samples": whole(self.crop_samples), "stages": stages})

    def with_only(self, stage: Stage) -> "TrainConfig":
        """These settings with one stage's batches over the whole run."""
        sizes = {"batch_size": stage.batch_size, "crop_samples": stage.crop_samples, "stages": ()}
        return self.model_copy(update=sizes)

    def stage_at(self, step: int) -> Stage:
        """The stage of the batch that follows after `step` steps."""
        return next(stage for stage in reversed(self.all_stages) if stage.from_step <= step)


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
                f"({train.prune_end_step}) <= train.steps ({train.steps}) must hold, or "
                "model.recurrent_density be [1, 1, 1]"
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


ALL_TABLES = ("mel", "signal", "model", "prep", "train")
PREP_TABLES = ("mel", "signal", "prep")
"""What prep reads of a config: what a network or its training asks for is no matter there."""


def load_config(
    source: str | Path,
    overrides: Sequence[str] = (),
    tables: Sequence[str] = ALL_TABLES,
    base: Config | None = None,
) -> Config:
    """Read a config and apply overrides.

    Args:
        source: path of a TOML file, or the name of a preset (see `preset_names`).
        overrides: assignments such as `"model.gru_size=256"`; the value is written as in TOML, and a
            bare word is taken as a string.
        tables: those that are used. Each of the others is checked by itself, and is then as if it were not there.
        base: has what the file does not say; None: the defaults.

    Raises:
        ConfigError: no such file or preset, not TOML, an unknown key or a bad value.
    """
    path = _find(source)
    given = _read(path)
    if base is not None:
        given = _laid_over(base.model_dump(), given)
    for override in overrides:
        _apply(given, override)
    origin = f"{path.name} with --set" if overrides else path.name
    unused = [name for name in ALL_TABLES if name in given and name not in tables]
    for name in unused:
        _validate({name: given.pop(name)}, origin)
    return _validate(given, origin)


def config_from_dict(tables: Mapping[str, Any], origin: str) -> Config:
    """The config stored in a voice, a checkpoint or a dataset; `origin` names the file in errors.

    Raises:
        ConfigError: the tables are not a config of this version.
    """
    return _validate(_upgraded(tables), origin)


def with_overrides(config: Config, overrides: Sequence[str]) -> Config:
    """A config with assignments applied, as `load_config` takes them.

    Raises:
        ConfigError: an unknown key or a bad value.
    """
    tables = config.model_dump()
    for override in overrides:
        _apply(tables, override)
    return _validate(tables, "--set")


def load_mel_config(source: str | Path, base: MelConfig | None = None) -> MelConfig:
    """A mel contract from one of `MEL_PRESETS`, or from the `[mel]` table of a config file or preset.

    Args:
        source: a name, a path, or what differs from `base`: `"log=log10,scale=2"`.
        base: by default the default contract.

    Raises:
        ConfigError: as `load_config`.
    """
    if "=" in str(source) and why_no_file(Path(source)) is not None:
        tables = {"mel": (base or MelConfig()).model_dump()}
        for assignment in str(source).split(","):
            _apply(tables, f"mel.{assignment.strip()}")
        return _validate(tables, f"--mel {source}").mel
    if str(source) in MEL_PRESETS:
        return MEL_PRESETS[str(source)]
    if str(source) not in preset_names() and why_no_file(Path(source)) is not None:
        raise ConfigError(
            f"mel contract '{source}' is not known; choose one of {', '.join(MEL_PRESETS)}, or give a TOML file, "
            "or what differs, as in log=log10"
        )
    path = _find(source)
    given = _read(path)
    # What stands beside [mel] is of no use here, as long as it is a config's.
    return _validate({name: given[name] for name in given if name not in ALL_TABLES[1:]}, path.name).mel


def to_toml(config: Config) -> str:
    """The whole config as TOML, defaults included; `load_config` reads it back to an equal config."""
    import tomli_w  # late: speaking writes none

    return tomli_w.dumps(config.model_dump())


def preset_names() -> list[str]:
    """Names of the configs that come with the package."""
    return sorted(path.stem for path in _preset_folder().glob("*.toml"))


def _preset_folder() -> Path:
    package = Path(__file__).parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"  # an editable install


def _read(path: Path) -> dict[str, Any]:
    try:
        tables = parse_toml(read_text(path, _LARGEST_BYTES))
    except (OSError, DocumentError) as error:
        raise ConfigError(
            f"{path}: not a readable TOML file: {error}; mend it, or name a preset: {', '.join(preset_names())}"
        ) from error
    return _upgraded(tables)


def _laid_over(base: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Tables with `base`'s values where `given` has none."""
    both = {**base, **given}
    for name, table in base.items():
        if isinstance(table, dict) and isinstance(both[name], dict):
            both[name] = {**table, **both[name]}
    return both


def _find(source: str | Path) -> Path:
    for path in (Path(source), _preset_folder() / f"{source}.toml"):
        if why_no_file(path) is None:
            return path
    raise ConfigError(
        f"config '{source}' is neither a file nor a preset; the presets are {', '.join(preset_names())}"
    )


def _apply(tables: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    keys = name.strip().split(".")
    if not equals or len(keys) != 2 or not all(keys):
        raise ConfigError(f"--set '{override}': write it as table.key=value, for example model.gru_size=256")
    try:
        value = parse_toml(f"value = {text.strip()}")["value"]
    except DocumentError:
        value = text.strip()  # a bare word, for example model.cell=lstm
    table, key = keys
    tables.setdefault(table, {})
    if not isinstance(tables[table], dict):
        raise ConfigError(f"--set '{override}': '{table}' is not a table")
    tables[table][key] = value


def _upgraded(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Tables whose keys are those of this version, whichever version wrote them."""
    return {
        table: {_RENAMED.get((table, key), key): value for key, value in keys.items()}
        if isinstance(keys, Mapping)
        else keys
        for table, keys in tables.items()
    }


_RENAMED = {
    ("train", "sparsify_start_step"): "prune_start_step",
    ("train", "sparsify_end_step"): "prune_end_step",
    ("train", "sparsify_every"): "prune_every",
    ("train", "warm_up_s"): "run_in_s",
}
"""Keys as runs, voices and checkpoints hold them that were written before 0.2."""


def _validate(tables: Mapping[str, Any], origin: str) -> Config:
    try:
        return Config.model_validate(tables)
    except ValidationError as error:
        raise ConfigError(f"{origin}: " + "; ".join(_explain(item) for item in error.errors())) from error


def _explain(item: Any) -> str:
    """One of pydantic's error records as `[table] key ...`."""
    location = [str(part) for part in item["loc"]]
    table = location[0] if len(location) > 1 or (location and location[0] in Config.model_fields) else None
    where = f"[{table}] " if table else ""
    key = location[1] if len(location) > 1 else (location[0] if location and table is None else "")
    if item["type"] == "extra_forbidden":
        known = list(Config.model_fields)
        if table in Config.model_fields:
            known = list(getattr(Config(), str(table)).__class__.model_fields)
        if len(location) > 2:  # in one of train.stages
            key, known = location[-1], list(Stage.model_fields)
        close = difflib.get_close_matches(key, known, n=1) or [
            name for name in known if key in name.split("_")
        ]
        hint = f"did you mean '{close[0]}'?" if close else f"known are {', '.join(known)}"
        return f"{where}unknown {'key' if table else 'table'} '{key}'; {hint}"
    message = item["msg"].removeprefix("Value error, ")
    if not key:
        return f"{where}{message}"
    nested = location[2:] if len(location) > 3 else []  # in one of train.stages
    within = "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in nested)
    got = repr(item["input"])
    got = got if len(got) <= _LONGEST_SHOWN else f"{got[:_LONGEST_SHOWN]}…"
    return f"{where}{key}{within}: {message[0].lower()}{message[1:]}, got {got}{_memory_of(key, item)}"


def _memory_of(key: str, item: Any) -> str:
    """What a layer that is too large would take, as a clause."""
    if item["type"] != "less_than_equal" or not key.endswith("_size") or key == "batch_size":
        return ""
    gib = 4 * item["input"] ** 2 / 2**30
    return f"; a matrix of that size takes {gib:,.0f} GiB, and training five of it"
