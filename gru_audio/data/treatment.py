"""What `prep` does to one file, and to the group of files that one shard holds."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gru_audio.config import Config, PrepConfig
from gru_audio.data.cutting import SHORTEST_S, cut_at_pauses
from gru_audio.data.given_mels import read_given_mel
from gru_audio.data.inputs.catalogue import Source, stretch_name
from gru_audio.data.reading import read_source, shown_path, why_unusable
from gru_audio.data.stored.index import SPLITS
from gru_audio.data.stored.shards import (
    ClipRecord,
    DamagedShardError,
    ShardHeader,
    encode_shard,
    lags_key,
    mel_key,
    pcm_key,
    read_verified,
)
from gru_audio.errors import AudioError, MelError
from gru_audio.files import atomic_path
from gru_audio.signal.audio import (
    FULL_SCALE,
    from_int16,
    normalise_loudness,
    resample,
    sounding_range,
    to_int16,
    trim_silence,
)
from gru_audio.signal.mel import silent_frames
from gru_audio.signal.pitch import track_pitch
from gru_audio.voice.tensor_file import digest_of

_GROUP_FILES = 64
_GROUP_BYTES = 64 << 20
_PCM_SUFFIXES = frozenset({".wav", ".aiff", ".aif", ".au", ".w64", ".caf", ".rf64"})
ENOUGH_RECORDINGS = len(SPLITS)
_COMPRESSION = 8
"""Bytes of PCM in a byte of other formats, roughly; a two-hour podcast is a group of its own."""


@dataclass(frozen=True)
class ShardTask:
    """One shard to make.

    Attributes:
        path: where it goes.
        sources: the files that it is made of, in order.
        config: of which [mel], [signal] and [prep] matter.
        input_format: ffmpeg's name of the files' format, or None.
        n_recordings: how many the dataset has; see `longest_piece_s`. Where there are enough, it says just that.
        fingerprint: of all this.
    """

    path: Path
    sources: tuple[Source, ...]
    config: Config
    input_format: str | None
    n_recordings: int
    fingerprint: str

    def absolute(self) -> "ShardTask":
        """The same for a process that works in another folder."""
        sources = tuple(source.absolute() for source in self.sources)
        return replace(self, path=self.path.absolute(), sources=sources)


@dataclass(frozen=True)
class MadeShard:
    """What became of one shard's task.

    Attributes:
        header: the shard's.
        was_kept: the file that was there still held.
        n_sources: how many recordings it was to be made of.
        skipped: those that could not be used, by their path, each with the reason.
    """

    header: ShardHeader
    was_kept: bool
    n_sources: int
    skipped: tuple[tuple[str, str], ...]


def group(sources: Iterable[Source]) -> Iterator[tuple[Source, ...]]:
    """Sources in groups, in order, by number and by the memory that their audio takes."""
    gathered: list[Source] = []
    weight = 0
    for source in sources:
        stored = PurePosixPath(source.relative if source.member else source.path)
        expansion = 1 if stored.suffix.lower() in _PCM_SUFFIXES else _COMPRESSION
        size = max(0, source.size_bytes) * expansion
        if gathered and (len(gathered) == _GROUP_FILES or weight + size > _GROUP_BYTES):
            yield tuple(gathered)
            gathered, weight = [], 0
        gathered.append(source)
        weight += size
    if gathered:
        yield tuple(gathered)


def treat(
    audio: NDArray[np.float32], sample_rate_hz: int, config: Config, *, pad_behind: bool = False
) -> NDArray[np.int16]:
    """Bring a clip to the form that a dataset holds.

    Args:
        audio: (n_samples,), full scale at 1.
        sample_rate_hz: its rate.
        config: [mel] says the rate and the hop, [prep] the rest.
        pad_behind: what is too short is padded at its end alone, so that its first sample stays the first.

    Returns:
        The clip at the mel's rate, trimmed, levelled and padded, a whole number of hops long; no sample
        is clipped.
    """
    rate, prep = config.mel.sample_rate_hz, config.prep
    audio = resample(audio, sample_rate_hz, rate)
    if prep.trim_db > 0:
        audio = trim_silence(audio, rate, prep.trim_db, prep.trim_margin_s)
    if prep.loudness_lufs < 0:
        audio = normalise_loudness(audio, rate, prep.loudness_lufs)
    peak = float(np.abs(audio).max(initial=0.0))
    if peak > FULL_SCALE:  # a resampler's overshoot, or a float file that goes past 1
        audio = audio * np.float32(FULL_SCALE / peak)
    least = math.ceil(prep.min_duration_s * rate)
    return pad(to_int16(audio), least, config.mel.hop_samples, behind=pad_behind)


def pad(
    pcm: NDArray[np.int16], min_samples: int, hop_samples: int, *, behind: bool = False
) -> NDArray[np.int16]:
    """Zeros at both ends of a clip, or only behind it, up to a length, and at its end up to a whole number of hops."""
    missing = max(0, min_samples - pcm.size)
    before = 0 if behind else missing // 2
    after = missing - before + -(pcm.size + missing) % hop_samples
    return np.pad(pcm, (before, after))


def clipped_samples(audio: NDArray[np.float32]) -> int:
    """How many samples lie at full scale next to another such; a lone one is but a normalised peak."""
    full = np.abs(audio) >= FULL_SCALE
    return int(np.count_nonzero(full[1:] & full[:-1]))


def longest_piece_s(duration_s: float, prep: PrepConfig, n_recordings: int) -> float:
    """How long the pieces of a recording may be: `prep.longest_s`, or less.

    Where there are fewer recordings than splits, each is cut into as many pieces as leave none empty, as far as it
    is long enough.

    Args:
        duration_s: of the recording.
        prep: the settings.
        n_recordings: how many the dataset has.
    """
    if not prep.longest_s or n_recordings >= ENOUGH_RECORDINGS:
        return prep.longest_s
    least_pieces = -(-ENOUGH_RECORDINGS // n_recordings)
    return min(prep.longest_s, max(2 * SHORTEST_S, duration_s / least_pieces))


def make_shard(task: ShardTask) -> MadeShard:
    """Make one shard, or keep the one that is there.

    What a shard had to skip is tried again: the file may have been mended, or ffmpeg installed. Its clips stay,
    whether or not their sources can be read now.

    Raises:
        OutputError: the shard cannot be written.
    """
    have: dict[str, list[ClipRecord]] = {}
    tensors: dict[str, NDArray[Any]] = {}
    try:
        old, old_tensors = read_verified(task.path)
        if old.fingerprint == task.fingerprint:
            if not old.skipped:
                return MadeShard(old, True, len(task.sources), ())
            tensors = old_tensors
            for record in old.clips:
                have.setdefault(record.key, []).append(record)
    except DamagedShardError:
        pass  # missing, cut short or altered: made below
    clips: list[ClipRecord] = []
    skipped: list[tuple[str, str]] = []
    paths: list[tuple[str, str]] = []
    for source in task.sources:
        if source.key in have:
            clips += have[source.key]
            continue
        try:
            made = list(_make_clips(source, task))
        except (AudioError, MelError, MemoryError) as error:
            reason = why_unusable(source, error)
            skipped.append((source.name, reason))
            paths.append((shown_path(source), reason))
            continue
        for clip in made:
            clips.append(clip.record)
            tensors |= clip.tensors
    if have and len(clips) == sum(map(len, have.values())):
        header = replace(old, skipped=tuple(skipped))  # of this time
        return MadeShard(header, True, len(task.sources), tuple(paths))
    header, encoded = encode_shard(task.fingerprint, clips, skipped, tensors)
    with atomic_path(task.path) as temporary:
        temporary.write_bytes(encoded)
    return MadeShard(header, False, len(task.sources), tuple(paths))


class _Piece(NamedTuple):
    """A stretch of a recording that becomes a clip.

    Attributes:
        audio: (n,), at the dataset's rate.
        first: its first sample in the recording.
        stop: the one after its last.
        is_cut: there are others of the same recording.
    """

    audio: NDArray[np.float32]
    first: int
    stop: int
    is_cut: bool


def _pieces(
    audio: NDArray[np.float32], config: Config, n_recordings: int, grid_samples: int
) -> Iterator[_Piece]:
    """The stretches (at the dataset's rate) that a recording is cut into, without silence at their ends.

    They begin and end on a grid. One alone, on a grid of single samples, is the whole recording, as it is. Of several,
    those that are silent beside the others are left out.
    """
    rate, prep = config.mel.sample_rate_hz, config.prep
    bounds = cut_at_pauses(audio, rate, longest_piece_s(audio.size / rate, prep, n_recordings))
    is_cut = len(bounds) > 1
    if not is_cut and grid_samples == 1:
        yield _Piece(audio, 0, audio.size, is_cut)
        return
    silent = float(np.abs(audio).max()) * 10 ** (-prep.trim_db / 20) if prep.trim_db > 0 else 0.0
    for first, stop in bounds:
        piece = audio[first:stop]
        if np.abs(piece).max() <= silent:
            continue
        low, high = 0, piece.size
        if prep.trim_db > 0:
            low, high = sounding_range(piece, rate, prep.trim_db, prep.trim_margin_s)
        begin = (first + low) // grid_samples * grid_samples
        end = min(-(-(first + high) // grid_samples) * grid_samples, audio.size)
        yield _Piece(audio[begin:end], begin, end, is_cut)


class _MadeClip(NamedTuple):
    """A clip, and what the shard holds of it.

    Attributes:
        record: what is told of it.
        tensors: its PCM (n_samples,), pitch lags (n_frames,), and the mel that was given (n_frames, n_mels).
    """

    record: ClipRecord
    tensors: dict[str, NDArray[Any]]


def _make_clips(source: Source, task: ShardTask) -> Iterator[_MadeClip]:
    """The clips of one recording."""
    config, mel = task.config, task.config.mel
    rate, hop = mel.sample_rate_hz, mel.hop_samples
    recorded, recorded_hz = read_source(source, task.input_format)
    audio = resample(recorded, recorded_hz, rate)
    given = None if source.mel is None else read_given_mel(source.mel, audio, mel)
    for piece in _pieces(audio, config, task.n_recordings, 1 if given is None else hop):
        name = source.name
        if piece.is_cut:
            times_s = (source.start_s + sample / rate for sample in (piece.first, piece.stop))
            name = stretch_name(source.name, *times_s)
        pcm = treat(
            piece.audio, rate, _untrimmed(config) if piece.is_cut or given else config, pad_behind=bool(given)
        )
        lags = track_pitch(
            from_int16(pcm),
            rate,
            hop_samples=hop,
            n_frames=pcm.size // hop,
            lag_min_samples=config.lag_min_samples,
            lag_max_samples=config.lag_max_samples,
            lead_samples=mel.lead_samples,
        )
        bounds = (round(sample / rate * recorded_hz) for sample in (piece.first, piece.stop))
        record = ClipRecord(
            name=name,
            speaker=source.speaker,
            source=source.relative,
            n_samples=pcm.size,
            digest=digest_of(pcm),
            full_scale_samples=clipped_samples(recorded[slice(*bounds)]),
            key=source.key,
            mel_shift=None if given is None else given.shift,
        )
        tensors: dict[str, NDArray[Any]] = {pcm_key(name): pcm, lags_key(name): lags}
        if given is not None:
            frames = silent_frames(pcm.size // hop + (mel.padding == "center"), mel)
            own = given.frames[piece.first // hop :][: len(frames)]
            frames[: len(own)] = own
            tensors[mel_key(name)] = frames
        yield _MadeClip(record, tensors)


def _untrimmed(config: Config) -> Config:
    """The settings of a piece, which is trimmed already."""
    return config.model_copy(update={"prep": config.prep.model_copy(update={"trim_db": 0.0})})
