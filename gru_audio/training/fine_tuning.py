"""Fine-tuning: a run that starts from a voice's weights, on other clips."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gru_audio.config import Config, has_mel, which_preset_has
from gru_audio.data.dataset import Dataset
from gru_audio.errors import CheckpointError, TrainingError
from gru_audio.network.blocks import DENSITIES, kept_of, pruned_weights
from gru_audio.network.model import Network
from gru_audio.signal.mel_adapt.conversion import contract_differences
from gru_audio.training.growing import grown
from gru_audio.voice.bundled import voice_path
from gru_audio.voice.run_folder import CONFIG_FILE, VOICE_FILE
from gru_audio.voice.voice import SAMPLING, Voice, load_voice

FINE_TUNING: dict[str, Any] = {
    "steps": 1_500,
    "augment_gain_db": (0.0, 0.0),  # the speaker's own clips, as they are
    "augment_polarity": False,
    "augment_filter_db": 0.0,
    "augment_speed": 0.0,
    "learning_rate": 5e-4,
    "learning_rate_schedule": "cosine",
    "warm_up_steps": 100,
    "average_decay": 0.998,
    "valid_every": 250,
    "free_running_every": 250,
    "free_running_clips": 8,
    "checkpoint_every": 250,
    "patience": 3,
    "workers": 1,
}
"""What of [train] a run takes in place of the voice's, which were for hours on many clips; see docs/training.md."""

_PRUNED_BEFORE = {"prune_start_step": 1, "prune_end_step": 2}
"""Of settled blocks: over before any `steps`."""


@dataclass(frozen=True)
class StartingVoice:
    """The voice that a run starts from.

    Attributes:
        name: of its file, or of its run's folder.
        voice: its weights, statistics and config.
        config_file: of its run, where it may lie in one.
    """

    name: str
    voice: Voice
    config_file: Path | None = None

    @classmethod
    def read(cls, voice: str | Path) -> "StartingVoice":
        """From a bundled voice's name, a voice file or a run's folder.

        Raises:
            CheckpointError: not a voice, or a damaged one.
            ConfigError: its config is not one of this version's.
        """
        path = voice_path(voice)
        whole, config_file = path.resolve(), path.parent / CONFIG_FILE if path.name == VOICE_FILE else None
        name = whole.parent.name if whole.name == VOICE_FILE else whole.name
        return cls(name.removesuffix(".safetensors"), load_voice(whole), config_file)

    @property
    def config(self) -> Config:
        """The voice's settings as they stood at its last step, with `FINE_TUNING`: what fine-tuning does by default.

        The blocks that it kept are settled; see `with_pruning` for other densities.
        """
        config = self.voice.config
        settings, done = config.train, int(self.voice.metadata.get("steps", config.train.steps))
        handed_over = done >= settings.pitch_handover_step
        now = {
            **FINE_TUNING,
            "pitch_handover_step": 0 if handed_over else settings.pitch_handover_step,
            **_PRUNED_BEFORE,
        }
        train = settings.with_only(settings.stage_at(done)).model_copy(update=now)
        return config.model_copy(update={"train": train})

    @property
    def provenance(self) -> dict[str, Any]:
        """What a voice that comes of it must tell of it."""
        told = self.voice.metadata
        kept = (
            "steps",
            "dataset",
            "training_hours",
            "speakers",
            "licence",
            "source_note",
            "fine_tuned_from",
            SAMPLING,
        )
        return {"name": self.name, **{key: told[key] for key in kept if key in told}}

    @property
    def is_pruned(self) -> bool:
        """Whether no more of its weights are left than its config says; so of a dense one."""
        model = self.voice.config.model
        weights = {name: self.voice.tensors[name] for name in pruned_weights(model)}
        return not any(weight[~kept_of(name, weight, model)].any() for name, weight in weights.items())

    def grows_into(self, config: Config) -> bool:
        """Whether a config's network is a larger one, which begins as this voice; see growing.py."""
        return config.model.gru_size > self.voice.config.model.gru_size

    def is_settled_in(self, config: Config) -> bool:
        """Whether the blocks that the voice has kept are those that a config's network keeps."""
        return self.is_pruned and not (
            self.grows_into(config) or _densities(config) != _densities(self.voice.config)
        )

    def with_pruning(self, config: Config) -> Config:
        """A config as it is, but for when blocks are pruned that are not settled, where that was not chosen.

        From a tenth to six tenths of the steps, so that what is left has time to learn on.
        """
        steps = config.train.steps
        is_chosen = any(getattr(config.train, name) != step for name, step in _PRUNED_BEFORE.items())
        if is_chosen or not config.model.is_pruned or self.is_settled_in(config):
            return config
        start = max(1, steps // 10)
        now = {"prune_start_step": start, "prune_end_step": max(start + 1, steps * 6 // 10)}
        return config.model_copy(update={"train": config.train.model_copy(update=now)})

    def require_fit(self, config: Config, dataset: Dataset) -> None:
        """Make sure that the voice's weights are of use for a config and a dataset.

        The recurrent layer alone may be larger, and weights may be pruned to other densities; the other sizes are the
        voice's.

        Raises:
            TrainingError: another mel contract, or a table of the config that differs.
        """
        differing = contract_differences(dataset.mel, self.voice.config.mel)
        if differing:
            raise TrainingError(
                f"{dataset.path}: made with another mel contract than the voice '{self.name}' "
                f"({'; '.join(differing)}); prepare it again with the voice's [mel]{self._where_its_mel_is()}"
            )
        for table in ("mel", "signal", "model"):
            own, given = (getattr(found, table).model_dump() for found in (self.voice.config, config))
            free = (*DENSITIES, *(["gru_size"] if self.grows_into(config) else []))
            changed = [
                f"{key} {given[key]}, not {own[key]}"
                for key in own
                if own[key] != given[key] and key not in free
            ]
            if changed:
                but = " but for densities and a larger gru_size" if table == "model" else ""
                raise TrainingError(
                    f"voice '{self.name}': its [{table}] cannot change ({'; '.join(changed)}); leave that table as "
                    f"it is{but}, without --config or --set"
                )

    def _where_its_mel_is(self) -> str:
        """What --config to prepare a dataset with, where a file or a preset has the voice's contract."""
        if self.config_file and has_mel(self.config_file, self.voice.config.mel):
            return f", which --config {self.config_file} has"
        return which_preset_has(self.voice.config.mel)

    def load_into(self, network: Network) -> None:
        """Take over the weights and the mel's statistics.

        Raises:
            CheckpointError: a tensor is missing, not known or of another shape than the config says.
        """
        tensors = {name: torch.from_numpy(array.copy()) for name, array in self.voice.tensors.items()}
        own = network.state_dict()
        if self.grows_into(network.config):
            size = self.voice.config.model.gru_size
            tensors = {
                name: grown(name, tensor, own[name], size) if name in own else tensor
                for name, tensor in tensors.items()
            }
        try:
            network.load_state_dict(tensors)
        except RuntimeError as error:
            raise CheckpointError(
                f"voice '{self.name}': its tensors are not those that its config asks for; export it again"
            ) from error


def _densities(config: Config) -> list[object]:
    return [getattr(config.model, name) for name in DENSITIES]
