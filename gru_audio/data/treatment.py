"""What `prep` does to one file, and to the group of files that one shard holds."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gru_audio.config import Config
from gru_audio.data.shards import (
    ClipRecord,
    DamagedShardError,
    ShardHeader,
    digest_of,
    encode_shard,
    lags_key,
    pcm_key,
    read_verified,
)
from gru_audio.data.sources import Source
from gru_audio.errors import AudioError
from gru_audio.files import atomic_path
from gru_audio.signal.audio import (
    FULL_SCALE,
    from_int16,
    normalise_loudness,
    resample,
    to_int16,
    trim_silence,
)
from gru_audio.signal.audio_file.reading import read_audio
from gru_audio.signal.pitch import track_pitch

_GROUP_FILES = 64
_GROUP_BYTES = 64 << 20
_PCM_SUFFIXES = frozenset({".wav", ".aiff", ".aif", ".au", ".w64", ".caf", ".rf64"})
_NO_MEMORY = "takes more memory than there is; cut it in pieces, or use fewer --jobs"
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
        fingerprint: of all this.
    """

    path: Path
    sources: tuple[Source, ...]
    config: Config
    input_format: str | None
    fingerprint: str


def group(sources: Sequence[Source]) -> Iterator[tuple[Source, ...]]:
    """Sources in groups, in order, by number and by the memory that their audio takes."""
    gathered: list[Source] = []
    weight = 0
    for source in sources:
        expansion = 1 if source.path.suffix.lower() in _PCM_SUFFIXES else _COMPRESSION
        size = max(0, source.size_bytes) * expansion
        if gathered and (len(gathered) == _GROUP_FILES or weight + size > _GROUP_BYTES):
            yield tuple(gathered)
            gathered, weight = [], 0
        gathered.append(source)
        weight += size
    if gathered:
        yield tuple(gathered)


def read_sounding(path: Path, input_format: str | None) -> tuple[NDArray[np.float32], int]:
    """Read a file as `read_audio` does, and refuse one from which nothing can be learnt.

    Raises:
        AudioError: as `read_audio`, or the file has only zeros.
    """
    audio, sample_rate_hz = read_audio(path, input_format=input_format)
    if not audio.any():
        raise AudioError(f"{path}: has digital silence throughout; leave it out")
    return audio, sample_rate_hz


def treat(audio: NDArray[np.float32], sample_rate_hz: int, config: Config) -> NDArray[np.int16]:
    """Bring a clip to the form that a dataset holds.

    Args:
        audio: (n_samples,), full scale at 1.
        sample_rate_hz: its rate.
        config: [mel] says the rate and the hop, [prep] the rest.

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
    return pad(to_int16(audio), math.ceil(prep.min_duration_s * rate), config.mel.hop_samples)


def pad(pcm: NDArray[np.int16], min_samples: int, hop_samples: int) -> NDArray[np.int16]:
    """Zeros at both ends of a clip up to a length, and at its end up to a whole number of hops."""
    missing = max(0, min_samples - pcm.size)
    before = missing // 2
    after = missing - before + -(pcm.size + missing) % hop_samples
    return np.pad(pcm, (before, after))


def clipped_samples(audio: NDArray[np.float32]) -> int:
    """How many samples lie at full scale next to another such; a lone one is but a normalised peak."""
    full = np.abs(audio) >= FULL_SCALE
    return int(np.count_nonzero(full[1:] & full[:-1]))


def make_shard(task: ShardTask) -> tuple[ShardHeader, bool]:
    """Make one shard, or keep the one that is there.

    Returns:
        The shard's header, and whether the file was kept. What a shard had to skip is tried again: the
        file may have been mended, or ffmpeg installed. Its clips stay, whether or not their sources can
        be read now.

    Raises:
        OutputError: the shard cannot be written.
    """
    have: dict[str, ClipRecord] = {}
    tensors: dict[str, NDArray[Any]] = {}
    try:
        old, old_tensors = read_verified(task.path)
        if old.fingerprint == task.fingerprint:
            if not old.skipped:
                return old, True
            have, tensors = {clip.name: clip for clip in old.clips}, old_tensors
    except DamagedShardError:
        pass  # missing, cut short or altered: made below
    clips: list[ClipRecord] = []
    skipped: list[tuple[str, str]] = []
    for source in task.sources:
        if source.name in have:
            clips.append(have[source.name])
            continue
        try:
            clip, pcm, lags = _make_clip(source, task)
        except (AudioError, MemoryError) as error:
            reason = str(error) if isinstance(error, AudioError) else _NO_MEMORY
            skipped.append((source.name, reason.removeprefix(f"{source.path}: ")))
            continue
        clips.append(clip)
        tensors[pcm_key(source.name)] = pcm
        tensors[lags_key(source.name)] = lags
    if have and len(clips) == len(have):
        return replace(old, skipped=tuple(skipped)), True  # the reasons of this time
    header, encoded = encode_shard(task.fingerprint, clips, skipped, tensors)
    with atomic_path(task.path) as temporary:
        temporary.write_bytes(encoded)
    return header, False


def _make_clip(source: Source, task: ShardTask) -> tuple[ClipRecord, NDArray[np.int16], NDArray[np.float32]]:
    """One clip's record, PCM (n_samples,) and pitch lags (n_frames,)."""
    config = task.config
    audio, sample_rate_hz = read_sounding(source.path, task.input_format)
    pcm = treat(audio, sample_rate_hz, config)
    lags = track_pitch(
        from_int16(pcm),
        config.mel.sample_rate_hz,
        hop_samples=config.mel.hop_samples,
        n_frames=pcm.size // config.mel.hop_samples,
        lag_min_samples=config.lag_min_samples,
        lag_max_samples=config.lag_max_samples,
        lead_samples=config.mel.lead_samples,
    )
    record = ClipRecord(
        name=source.name,
        speaker=source.speaker,
        source=source.relative,
        n_samples=pcm.size,
        digest=digest_of(pcm),
        full_scale_samples=clipped_samples(audio),
    )
    return record, pcm, lags
