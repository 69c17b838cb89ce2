"""How training goes: the table [train], and the stages of its batches."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from gru_audio.config.bounds import Count, Fraction, NonNegative, Positive, PositiveFloat, Rate, Share, Table


class Stage(Table):
    """How large batches are from one step of a run on."""

    from_step: NonNegative
    """How many steps are done before its first."""
    batch_size: Annotated[int, Field(gt=0, le=1_000_000)]
    """B, crops a step."""
    crop_samples: Annotated[int, Field(gt=0, le=10_000_000)]
    """T, samples of each crop: the nearest whole number of mel frames is taken."""


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
    """Where a density of [model] is below 1: the step from which on blocks of weights go."""
    prune_end_step: Positive = 50_000
    """The step at which the density is reached and the blocks that are left are settled."""
    prune_every: Positive = 100
    """Steps from one choice of the blocks to the next."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Of the autocast; auto: bf16 where the device has it, else fp16 on a GPU and fp32 on a CPU."""
    workers: Annotated[int, Field(ge=0, le=1_024)] = 1
    """Processes that prepare batches; 0 prepares them in the training process."""
    seed: Annotated[int, Field(ge=0, lt=10**18)] = 0
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
