"""The mel of audio that comes piece by piece: bit for bit the frames that `mel.log_mel` gives of the whole."""

import numpy as np
import numpy.typing as npt

from gru_audio.arrays import FloatArray
from gru_audio.config import MelConfig
from gru_audio.signal.audio import check_audio
from gru_audio.signal.mel import analyse, analysis_window, mirrored_samples


class MelStream:
    """One stream of audio in, its mel frames out as soon as their windows are full.

    Attributes:
        lookahead_samples: how many samples after its own stretch of audio a frame's window reaches.
    """

    def __init__(self, config: MelConfig) -> None:
        """Begin a stream under a contract."""
        self._config = config
        self._n_mirrored = mirrored_samples(config)
        # Of a frame's n_fft samples those under the window's zeros need not have come.
        under_window = np.flatnonzero(analysis_window(config))
        self._reach = int(under_window[-1]) + 1
        # What is mirrored before the audio is known once more samples than this have come.
        self._start_needs = max(0, self._n_mirrored - int(under_window[0]))
        self.lookahead_samples = (
            self._reach - self._n_mirrored - config.hop_samples + config.lead_samples
        )  # 300 in the default contract
        self._last_sample = np.zeros(0, np.float32)
        # Pre-emphasised samples, after those mirrored before the audio once these are known.
        self._held = np.zeros(0, np.float32)
        self._next = 0  # where in `_held` the next frame begins
        self._n_samples = self._n_frames = 0

    def push(self, audio: npt.ArrayLike) -> FloatArray:
        """Take the next samples.

        Args:
            audio: (n,) with any n; see `check_audio`.

        Returns:
            (k, M), the frames that are complete now.

        Raises:
            AudioError: as `check_audio`.
        """
        samples = check_audio(audio)
        began = self._n_samples > self._start_needs
        self._n_samples += samples.size
        self._held = np.concatenate([self._held, self._emphasise(samples)])
        if self._n_samples <= self._start_needs:
            return np.zeros((0, self._config.n_mels), np.float32)
        if not began:
            self._held = np.pad(self._held, (self._n_mirrored, 0), mode="reflect")
        return self._take()

    def finish(self) -> FloatArray:
        """End the stream: the last frames (k, M), which look into the mirrored end."""
        n_mirrored, n_samples = self._n_mirrored, self._n_samples
        if not n_samples:
            return np.zeros((0, self._config.n_mels), np.float32)
        if n_samples <= n_mirrored:  # what is mirrored is mirrored again, at both ends; all samples are held
            padded = np.pad(self._held[-n_samples:], n_mirrored, mode="reflect")
            return analyse(padded, self._config)[self._n_frames :]
        mirrored = self._held[-n_mirrored - 1 : -1][::-1]
        return analyse(np.concatenate([self._held, mirrored])[self._next :], self._config)

    def _emphasise(self, samples: FloatArray) -> FloatArray:
        if not self._config.preemphasis or not samples.size:
            return samples
        joined = np.concatenate([self._last_sample, samples])
        emphasised = joined[1:] - np.float32(self._config.preemphasis) * joined[:-1]
        first = joined[:0] if self._last_sample.size else joined[:1]
        self._last_sample = samples[-1:].copy()
        return np.concatenate([first, emphasised])

    def _take(self) -> FloatArray:
        """The frames whose windows are full; forgets the samples that no later frame needs."""
        hop, n_fft = self._config.hop_samples, self._config.n_fft
        n_frames = max(0, (self._held.size - self._next - self._reach) // hop + 1)
        n_needed = (n_frames - 1) * hop + n_fft if n_frames else 0
        stretch = self._held[self._next : self._next + n_needed]
        missing = np.zeros(n_needed - stretch.size, np.float32)  # under the window's zeros
        mel = analyse(np.concatenate([stretch, missing]), self._config)
        self._n_frames += n_frames
        self._next += n_frames * hop
        spare = max(0, min(self._next, self._held.size - self._n_mirrored - 1))
        self._held, self._next = self._held[spare:].copy(), self._next - spare
        return mel
