"""From blocks with channels, as a decoder gives them, to checked mono audio."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gru_audio.arrays import FloatArray
from gru_audio.errors import AudioError
from gru_audio.signal.audio import check_scale
from gru_audio.signal.audio_file.ffmpeg import Decoded
from gru_audio.signal.bounds import check_size

_CANCELLED = 0.02  # of the power that the mean of unlike channels has: one is the other, inverted


class Mixer:
    """Makes checked mono audio of blocks with channels."""

    def __init__(self, path: Path, file_bytes: int, decoded: Decoded) -> None:
        self._path, self._file_bytes = path, file_bytes
        self._n_samples, self._power, self._mixed_power = 0, 0.0, 0.0
        self._n_channels = decoded.n_channels

    def mixed(self, blocks: Iterator[FloatArray]) -> Iterator[FloatArray]:
        """The blocks (n,), each when the next is there, so that the last comes when all is well."""
        held: FloatArray | None = None
        for block in blocks:
            if not len(block):
                continue
            mono = self._mix(block)
            if held is not None:
                yield held
            held = mono
        if held is None:
            raise AudioError(f"{self._path}: has no samples; replace it, or leave it out")
        if self._mixed_power < _CANCELLED * self._power / self._n_channels:
            drop_db = 10 * math.log10(self._power / max(self._mixed_power, 1e-12 * self._power))
            raise AudioError(
                f"{self._path}: its channels cancel each other: their mean is {drop_db:.0f} dB below them, as if one "
                "were inverted; take one (ffmpeg -i FILE -af pan=mono|c0=c0 OUT.wav)"
            )
        yield held

    def _mix(self, block: FloatArray) -> FloatArray:
        name = str(self._path)
        self._n_samples += len(block)
        check_size(self._n_samples, name, self._file_bytes)
        if not np.isfinite(block).all():
            raise AudioError(f"{name}: has samples that are NaN or infinite; export it again from its source")
        check_scale(block, name)
        if block.shape[1] == 1:
            return np.ascontiguousarray(block[:, 0])
        mono: FloatArray = block.mean(axis=1, dtype=np.float32)
        self._power += float(np.square(block, dtype=np.float64).sum()) / block.shape[1]
        self._mixed_power += float(np.square(mono, dtype=np.float64).sum())
        return mono
