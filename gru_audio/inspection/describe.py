"""What a file or a folder is: a voice, a checkpoint, a run, a dataset, a mel or audio, and the facts of it.

Nothing here imports torch (but for a mel in a .pt file). Voices and checkpoints are compared with their digests, and
so are datasets, whose shards are read only when that is asked for.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gru_audio.config import MEL_PRESETS, Config, MelConfig, config_from_dict, load_config
from gru_audio.data.dataset import Dataset
from gru_audio.data.stored.contents import DATASET_FILE, read_contents
from gru_audio.data.stored.index import SPLITS
from gru_audio.data.stored.shards import is_shard, shard_files
from gru_audio.errors import AudioError, CheckpointError, DatasetError, GruAudioError
from gru_audio.files import is_folder, why_neither
from gru_audio.inspection.facts import (
    AudioFacts,
    AudioFileFacts,
    CheckpointFacts,
    ContractFacts,
    DatasetFacts,
    Facts,
    MelFacts,
    MelFileFacts,
    NetworkFacts,
    RunFacts,
    SplitFacts,
    VoiceFacts,
)
from gru_audio.names import readable
from gru_audio.progress import ProgressCallback, ignore_progress
from gru_audio.signal.audio import finite
from gru_audio.signal.audio_file.reading import AUDIO_SUFFIXES, read_audio, read_encoding
from gru_audio.signal.mel_file import MEL_SUFFIXES, read_mel
from gru_audio.voice.run_folder import (
    CONFIG_FILE,
    METRICS_FILE,
    VOICE_FILE,
    checkpoint_paths,
    checkpoint_steps,
)
from gru_audio.voice.run_log import read_log
from gru_audio.voice.tensor_file import (
    Array,
    OtherProgramsFileError,
    is_exported,
    open_tensor_file,
    read_tensor_file,
    states_digest,
)
from gru_audio.voice.voice import check_voice_document, voice_of_file

_BUFFERS = frozenset({"mel_mean", "mel_std"})  # tensors of a network that are not learned


def describe(path: Path, *, verify: bool = False, progress: ProgressCallback = ignore_progress) -> Facts:
    """Find out what a file or a folder is.

    Args:
        path: the file or folder.
        verify: also compare all of a dataset's shards, or a run's checkpoints, with their digests.
        progress: told of the shards that were compared.

    Raises:
        GruAudioError: missing, damaged, or nothing that gru-audio knows.
    """
    if is_folder(path):
        return _describe_folder(path, verify, progress)
    if (reason := why_neither(path)) is not None:
        raise GruAudioError(f"{path}: {reason}; check the path")
    suffix = path.suffix.lower()
    if suffix == ".safetensors" or is_exported(path):
        return _describe_tensors(path)
    return _describe_mel(path) if suffix in MEL_SUFFIXES else _describe_audio(path)


def _describe_folder(path: Path, verify: bool, progress: ProgressCallback) -> RunFacts | DatasetFacts:
    if (path / DATASET_FILE).exists():
        return _describe_dataset(path, verify, progress)
    if (path / CONFIG_FILE).is_file() and (
        (path / METRICS_FILE).exists() or (path / VOICE_FILE).exists() or checkpoint_steps(path)
    ):
        return _describe_run(path, verify)
    if any(map(is_shard, shard_files(path))):
        raise DatasetError(f"{path}: an unfinished dataset; run the same gru-audio prep again to finish it")
    raise GruAudioError(
        f"{path}: neither a dataset (it has no {DATASET_FILE}) nor a training run (no {METRICS_FILE}); "
        "name a file in it"
    )


def _describe_tensors(path: Path) -> VoiceFacts | CheckpointFacts | MelFileFacts:
    try:
        with open_tensor_file(path) as file:
            document = file.document
            if "fingerprint" in document:
                raise DatasetError(f"{path}: a dataset's shard; name its folder, {path.parent}")
            if document["kind"] == "voice":
                return _describe_voice(path, document, file.tensors())
            if document["kind"] == "checkpoint":
                return _describe_checkpoint(path, document, file.tensors())
    except OtherProgramsFileError:
        return _describe_mel(path)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged: its header has no valid {error}; copy it again") from error
    raise CheckpointError(f"{path}: a {document['kind']}, which this gru-audio does not know; upgrade it")


def _describe_voice(path: Path, document: Mapping[str, Any], tensors: Mapping[str, Array]) -> VoiceFacts:
    config = voice_of_file(path, document, tensors).config
    told = check_voice_document(path, document).metadata
    engine, reason = _engine_choice(config)
    return VoiceFacts(
        path=readable(path),
        file_bytes=path.stat().st_size,
        version=document["version"],
        has_digest=states_digest(document),
        network=_network(config, tensors),
        mel=_contract(config.mel),
        steps=told.steps,
        validation=dict(told.validation),
        dataset=told.dataset,
        training_hours=told.training_hours,
        speakers=list(told.speakers),
        licence=told.licence,
        source_note=told.source_note,
        card={heading: str(text) for heading, text in told.card.items()},
        engine=engine,
        engine_reason=reason,
    )


def _engine_choice(config: Config) -> tuple[str, str]:
    from gru_audio.synthesis.engines import choose_engine  # late: it loads the C core

    return choose_engine(config)


def _describe_checkpoint(
    path: Path, document: Mapping[str, Any], tensors: Mapping[str, Array]
) -> CheckpointFacts:
    config, own = config_from_dict(document["config"], str(path)), "network/"
    network = {name.removeprefix(own): tensor for name, tensor in tensors.items() if name.startswith(own)}
    best = document["best_bits"]
    return CheckpointFacts(
        path=readable(path),
        file_bytes=path.stat().st_size,
        version=document["version"],
        has_digest=states_digest(document),
        step=int(document["step"]),
        steps=config.train.steps,
        best_bits=None if best is None else finite(best),
        parts=sorted({name.partition("/")[0] for name in tensors}),
        network=_network(config, network),
        mel=_contract(config.mel),
    )


def _describe_run(path: Path, verify: bool) -> RunFacts:
    config = load_config(path / CONFIG_FILE)
    try:
        logged = list(read_log(path))
    except OSError as error:
        raise GruAudioError(f"{path / METRICS_FILE}: cannot be read: {error.strerror}; check it") from error
    valid = [
        (float(line["bits"]), line["step"])
        for line in logged
        if line["group"] == "valid" and isinstance(line.get("bits"), int | float)
    ]
    last_bits, last_step = valid[-1] if valid else (None, None)
    best_bits, best_step = min((pair for pair in valid if pair[1]), default=(None, None))
    checkpoints = checkpoint_steps(path)
    for checkpoint in checkpoint_paths(path) if verify else ():
        read_tensor_file(checkpoint, "checkpoint")
    voice = path / VOICE_FILE
    return RunFacts(
        path=readable(path),
        step=max([line["step"] for line in logged] + checkpoints, default=0),
        steps=config.train.steps,
        last_bits=last_bits,
        last_bits_step=last_step,
        best_bits=best_bits,
        best_bits_step=best_step,
        checkpoints=checkpoints,
        voice=_describe_voice(voice, *read_tensor_file(voice, "voice")) if voice.is_file() else None,
        mel=_contract(config.mel),
        verified=verify,
    )


def _describe_dataset(path: Path, verify: bool, progress: ProgressCallback) -> DatasetFacts:
    dataset = Dataset.open(path)
    if verify:
        dataset.verify(progress)
    rate_hz = dataset.mel.sample_rate_hz
    clips = dataset.clips()
    speakers = {
        name: _amount(clips.n_samples[clips.speaker == number], rate_hz)
        for number, name in clips.speakers.items()
    }
    return DatasetFacts(
        path=readable(path),
        disk_bytes=sum(file.stat().st_size for file in path.iterdir() if file.is_file()),
        version=read_contents(path)["version"],
        total=_amount(clips.n_samples, rate_hz),
        splits={split: _amount(dataset.clips(split).n_samples, rate_hz) for split in SPLITS},
        speakers=dict(sorted(speakers.items())),
        mel=_contract(dataset.mel),
        licence=dataset.licence,
        source_note=dataset.source_note,
        prep=dataset.prep.model_dump(),
        shards=dataset.n_shards,
        verified=verify,
    )


def _amount(n_samples: NDArray[np.int64], rate_hz: int) -> SplitFacts:
    return SplitFacts(len(n_samples), int(n_samples.sum()) / rate_hz / 3600)


def _describe_mel(path: Path) -> MelFileFacts:
    guesses = list[str]()
    mel, contract = read_mel(path, tell=guesses.append)
    return MelFileFacts(
        **vars(MelFacts.of(mel, contract)),
        path=readable(path),
        file_bytes=path.stat().st_size,
        mel=_contract(contract) if contract else None,
        layout=next(iter(guesses), None),
    )


def _describe_audio(path: Path) -> AudioFileFacts:
    try:
        audio, sample_rate_hz = read_audio(path)
    except AudioError as error:
        if path.suffix.lower() in AUDIO_SUFFIXES or not path.is_file():
            raise
        raise AudioError(
            f"{path}: neither audio nor a mel ({', '.join(sorted(MEL_SUFFIXES))}); "
            "name a voice, a checkpoint, a run, a dataset, a mel or audio"
        ) from error
    encoding = read_encoding(path)
    return AudioFileFacts(
        **vars(AudioFacts.of(audio, sample_rate_hz, encoding.n_channels if encoding else None)),
        path=readable(path),
        file_bytes=path.stat().st_size,
        format=encoding.name if encoding else None,
    )


def _network(config: Config, tensors: Mapping[str, Array]) -> NetworkFacts:
    return NetworkFacts(
        settings=config.model.model_dump(),
        lpc_order=config.signal.lpc_order,
        bits=config.signal.bits,
        parameters=sum(tensor.size for name, tensor in tensors.items() if name not in _BUFFERS),
    )


def _contract(mel: MelConfig) -> ContractFacts:
    return ContractFacts(
        next((name for name, preset in MEL_PRESETS.items() if preset == mel), None), mel.model_dump()
    )
