"""The clips that an evaluation uses: a dataset's held-out ones, or the audio files of a folder."""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from gru_audio.arrays import FloatArray
from gru_audio.config import MelConfig
from gru_audio.data.dataset import Dataset
from gru_audio.data.sources import Source, plan_sources
from gru_audio.data.stored.clips import Clip
from gru_audio.data.stored.contents import DATASET_FILE
from gru_audio.errors import AudioError, DatasetError
from gru_audio.signal.audio import from_int16, require_at_rate
from gru_audio.signal.audio_file.reading import read_audio

HELD_OUT_CLIPS = 24
"""How many of a dataset's clips are taken where no number is given."""

SHORTEST_S, LONGEST_S = 2.0, 6.0
"""Clips of such a length are taken first."""

_Item = TypeVar("_Item", Clip, Source)


@dataclass(frozen=True)
class Original:
    """A clip as it was recorded.

    Attributes:
        name: unique among those of an evaluation.
        speaker: who speaks, as far as the folders tell.
        audio: (n,) with full scale 1.
        sample_rate_hz: of the audio.
        mel: (F, M) that was given for it, under the dataset's contract; None where it is to be computed.
        contract: the mel's; None without one.
    """

    name: str
    speaker: str
    audio: FloatArray
    sample_rate_hz: int
    mel: FloatArray | None = None
    contract: MelConfig | None = None


def find_originals(
    source: Path, n_clips: int | None = None, rate_hz: int | None = None
) -> tuple[list[Original], list[str]]:
    """The clips to evaluate with, always the same for the same source.

    A dataset's are of its test split, then valid, as evenly from its speakers as may be, and of each first those
    of 2 to 6 s. A folder's are all its audio files, or as many, as evenly.

    Args:
        source: a dataset, a folder of audio or a file.
        n_clips: how many; None for 24 of a dataset and all of a folder.
        rate_hz: the voice's; a file that has no sample at it is left out.

    Returns:
        The clips, and a line for each file that cannot be read.

    Raises:
        DatasetError: no such dataset or folder, or it holds out no clips.
        AudioError: no file can be read.
    """
    if (source / DATASET_FILE).is_file():
        return _of_dataset(Dataset.open(source), n_clips or HELD_OUT_CLIPS), []
    return _of_files(source, n_clips, rate_hz)


def _of_dataset(dataset: Dataset, n_clips: int) -> list[Original]:
    rate = dataset.mel.sample_rate_hz
    held_out = [*dataset.clips("test"), *dataset.clips("valid")]
    if not held_out:
        raise DatasetError(
            f"{dataset.path}: no clip is held out of training; prepare it with --set prep.test_fraction=0.05, "
            "or give a folder of other audio"
        )
    held_out.sort(key=lambda clip: not SHORTEST_S <= clip.n_samples / rate <= LONGEST_S)
    return [
        Original(
            clip.name,
            _speaker(clip),
            from_int16(dataset.audio(clip)),
            rate,
            mel_of(dataset, clip),
            dataset.mel,
        )
        for clip in in_turn(held_out, _speaker)[:n_clips]
    ]


def mel_of(dataset: Dataset, clip: Clip, n_samples: int | None = None) -> FloatArray | None:
    """The mel (F, M) that was given for a clip's first samples, by default for all; None where there is none."""
    if not clip.has_mel:
        return None
    n_frames = min(clip.n_samples, n_samples or clip.n_samples) // dataset.mel.hop_samples
    return dataset.given_mel(clip, 0, n_frames + (dataset.mel.padding == "center"))


def _of_files(source: Path, n_clips: int | None, rate_hz: int | None) -> tuple[list[Original], list[str]]:
    originals, unreadable = list[Original](), list[str]()
    for file in in_turn(plan_sources([source]).sources, _speaker):
        if n_clips is not None and len(originals) == n_clips:
            break
        try:
            audio, rate = read_audio(file.path)
            require_at_rate(audio, rate, rate_hz or rate, str(file.path))
        except AudioError as error:
            unreadable.append(str(error))
        else:
            originals.append(Original(file.name, _speaker(file), audio, rate))
    if not originals:
        raise AudioError(f"{source}: none of {len(unreadable)} files can be read; the first: {unreadable[0]}")
    return originals, unreadable


def in_turn(items: Iterable[_Item], speaker_of: Callable[[_Item], str]) -> list[_Item]:
    """One of each speaker, then the next of each, each speaker's in the order given."""
    by_speaker: dict[str, list[_Item]] = {}
    for item in items:
        by_speaker.setdefault(speaker_of(item), []).append(item)
    rounds = itertools.zip_longest(*(by_speaker[speaker] for speaker in sorted(by_speaker)))
    return [item for items in rounds for item in items if item is not None]


def _speaker(item: Clip | Source) -> str:
    """Who speaks, without the folders that some corpora have below a speaker's."""
    return item.speaker.split("/")[0]
