"""A run's network as a voice, with all that its users must know of where it comes from."""

from collections.abc import Mapping
from typing import Any

from gru_audio.config import Config
from gru_audio.data.dataset import Dataset
from gru_audio.network.model import Network
from gru_audio.voice.voice import SAMPLING, Voice


def voice_of(
    network: Network,
    config: Config,
    dataset: Dataset,
    step: int,
    figures: Mapping[str, float],
    origin: Mapping[str, Any] | None,
) -> Voice:
    """The voice of a network's weights.

    Args:
        network: its moving average.
        config: the run's.
        dataset: what it was trained on.
        step: of the run.
        figures: of its validation.
        origin: of the voice that it was fine-tuned from, as `StartingVoice.provenance` tells it; it is drawn as that.
    """
    clips = dataset.clips("train")
    metadata = {
        "steps": step,
        "validation": dict(figures),
        "dataset": str(dataset.path.resolve().name),
        "training_hours": int(clips.n_samples.sum()) / config.mel.sample_rate_hz / 3600,
        "speakers": sorted(clips.speakers.values()),
        "licence": _joint_licence(dataset.licence, origin),
        "source_note": dataset.source_note,
    }
    if origin is not None:
        metadata["fine_tuned_from"] = origin
        if SAMPLING in origin:
            metadata[SAMPLING] = origin[SAMPLING]
    tensors = {name: tensor.cpu().numpy() for name, tensor in network.state_dict().items()}
    return Voice(config, tensors, metadata)


def _joint_licence(own: str, origin: Mapping[str, Any] | None) -> str:
    """The licences of the clips and of the voice that was fine-tuned on them: what comes of it has both."""
    licences = dict.fromkeys([own, str((origin or {}).get("licence", ""))])
    return " and ".join(filter(None, licences))
