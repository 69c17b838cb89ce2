"""What `prep` does to one recording: cut, resampled, trimmed, brought to one loudness, padded, with pitch labels."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gru_audio.config import Config, PrepConfig
from gru_audio.data.cutting import SHORTEST_S, cut_at_pauses
from gru_audio.data.given_mels import read_given_mel
from gru_audio.data.inputs.catalogue import Source, stretch_name
from gru_audio.data.reading import read_source
from gru_audio.data.stored.index import SPLITS
from gru_audio.data.stored.shards import ClipRecord, lags_key, mel_key, pcm_key
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

ENOUGH_RECORDINGS = len(SPLITS)
"""From so many on no recording is cut for the splits' sake."""


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
        The clip at the mel's rate, trimmed, brought to one loudness and padded, a whole number of hops long; no sample
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


class MadeClip(NamedTuple):
    """A clip, and what the shard holds of it.

    Attributes:
        record: what is told of it.
        tensors: its PCM (n_samples,), pitch lags (n_frames,), and the mel that was given (n_frames, n_mels).
    """

    record: ClipRecord
    tensors: dict[str, NDArray[Any]]


def make_clips(
    source: Source, config: Config, n_recordings: int, input_format: str | None
) -> Iterator[MadeClip]:
    """The clips of one recording.

    Args:
        source: the recording.
        config: of which [mel], [signal] and [prep] matter.
        n_recordings: how many the dataset has; see `longest_piece_s`.
        input_format: ffmpeg's name of the file's format, or None.

    Raises:
        AudioError: it cannot be read, or used.
        MelError: its given mel does not match it.
    """
    mel = config.mel
    rate, hop = mel.sample_rate_hz, mel.hop_samples
    recorded, recorded_hz = read_source(source, input_format)
    audio = resample(recorded, recorded_hz, rate)
    given = None if source.mel is None else read_given_mel(source.mel, audio, mel)
    for piece in _pieces(audio, config, n_recordings, 1 if given is None else hop):
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
        yield MadeClip(record, tensors)


def _untrimmed(config: Config) -> Config:
    """The settings of a piece, which is trimmed already."""
    return config.model_copy(update={"prep": config.prep.model_copy(update={"trim_db": 0.0})})
