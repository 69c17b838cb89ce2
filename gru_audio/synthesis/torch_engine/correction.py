"""The spectral correction of many streams at once on a device: the rule of ../correction.py, up to rounding.

See native/correction/correction.c for the rule and its drawing. Here all B streams go on by a frame together. What a
frame takes, some hundred small operations on tensors that stay where they are, is captured on a GPU, and replayed for
each.
"""

import math

import torch
from torch import Tensor

from gru_audio.arrays import FloatArray
from gru_audio.config import MelConfig
from gru_audio.signal.mel import analysis_values, filterbank, heard_filters
from gru_audio.synthesis.correction_plan import delay_of, plan_of_contract
from gru_audio.synthesis.torch_engine.correction_frames import LEAST, OverlappingFrames
from gru_audio.synthesis.torch_engine.correction_low import LowEnd
from gru_audio.synthesis.torch_engine.graph import replayable

_CONTRAST_FRAMES = 2  # before a frame and after it


class _Contrast:
    """What stands out of a mel stands out more; see native/correction/correction_contrast.h."""

    def __init__(self, config: MelConfig, n_before: int, n_after: int) -> None:
        """Begin, with how many frames are known before the newest open one, and after it."""
        plan = plan_of_contract(config)
        self._of_bands, self._of_frames, self._limit = (
            float(number) for number in (plan.contrast_of_bands, plan.contrast_of_frames, plan.contrast_limit)
        )
        self._floor, self._silent = float(plan.floor), float(plan.silent)
        self._power = config.spectrum_power
        self._n_near, self._n_known = 3 * config.n_mels // 16, n_before
        self._shifts = range(-min(n_before, _CONTRAST_FRAMES), min(n_after, _CONTRAST_FRAMES) + 1)
        self._n_after = n_after

    def logs(self, linear: Tensor) -> Tensor:
        """(B, F, M), nothing below the floor's."""
        return linear.clamp(min=self._floor).log()

    def targets(self, logs: Tensor, valid: Tensor) -> Tensor:
        """Linear targets (B, F, M) of the frames of (B, before + F + after, M) that have all of these around them."""
        first, n_frames = self._n_known, logs.shape[1] - self._n_known - self._n_after
        own = logs[:, first : first + n_frames]
        around = [slice(first + shift, first + shift + n_frames) for shift in self._shifts]
        n_valid = torch.stack([valid[:, part] for part in around]).sum(0)[..., None]
        of_frames = torch.stack([logs[:, part] * valid[:, part, None] for part in around]).sum(0)
        below = torch.nn.functional.pad(own.cumsum(2), (1, 0))
        bands = torch.arange(own.shape[2], device=own.device)
        lowest, end = (bands - self._n_near).clamp(min=0), (bands + self._n_near + 1).clamp(max=len(bands))
        of_bands = (below[..., end] - below[..., lowest]) / (end - lowest)
        change = self._of_bands * (own - of_bands) + self._of_frames * (
            own - of_frames / n_valid.clamp(min=1)
        )
        floor = math.log(self._floor)
        sharp = (own + change.clamp(-self._limit, self._limit)).clamp(min=floor)
        energies = [torch.logsumexp(2 / self._power * part, 2, keepdim=True) for part in (own, sharp)]
        sharp = sharp + 0.5 * self._power * (energies[0] - energies[1])
        heard = sharp.clamp(min=floor).exp()
        return torch.where(own > math.log(self._silent), heard, LEAST) if self._silent else heard


class DeviceCorrections:
    """The correction of B streams that began together; each frame comes back `delay` frames late."""

    def __init__(self, config: MelConfig, n_rounds: int, n_streams: int, device: torch.device) -> None:
        """Begin; with no rounds the audio stays as it is, and nothing is late."""
        self.n_rounds, self.delay = n_rounds, 0
        if not n_rounds:
            return
        plan = plan_of_contract(config)
        self.delay, self._n_open, self._before = delay_of(plan), int(plan.n_open), int(plan.before)
        self._hop, self._width, self._n_fft = config.hop_samples, config.window_samples, config.n_fft
        self._n_audio, self._is_power = int(plan.n_audio), config.spectrum == "power"
        self._exponent, self._limit = float(plan.exponent), float(plan.log_limit)

        def place(array: FloatArray) -> Tensor:
            return torch.from_numpy(array.copy()).to(device)

        self._bank = place(heard_filters(config)).T.contiguous()  # (K, M)
        bank = place(filterbank(config)).T
        shares = bank / bank.sum(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
        self._shares = shares.T.contiguous()  # (M, K)
        window = place(analysis_values(config)["window"][: self._width])
        self._frames = OverlappingFrames(window, self._hop, self._n_open, float(plan.full), n_streams)
        self._low = LowEnd(config, self._bank, self._shares, n_streams) if plan.low_n_rounds else None
        self._contrast = _Contrast(config, self._n_open - 1, self.delay - self._n_open + 1)

        def zeros(*sizes: int) -> Tensor:
            return torch.zeros(n_streams, *sizes, dtype=torch.float32, device=device)

        self._audio = zeros(self._n_audio - self._hop)
        self._logs = zeros(self.delay, config.n_mels)
        self._targets, self._valid = zeros(self._n_open - 1, config.n_mels), zeros(self.delay)
        # What one frame reads, and what it makes.
        self._read = zeros(self._n_audio), zeros(self._n_open, config.n_mels), zeros(self._n_open)
        self._made = zeros(self._hop)
        self._go_on = replayable(self._frame, device)
        self._frames.forget()  # what a capture's first run left
        if self._low is not None:
            self._low.forget()

    def push(self, audio: Tensor, linear: Tensor, valid: Tensor) -> Tensor:
        """Go on by F frames.

        Args:
            audio: (B, F hop); 0 in frames that are not valid.
            linear: (B, F, M), the mel without its logarithm.
            valid: (B, F), 1, or 0 where a stream is over.

        Returns:
            (B, F hop), the audio of the frames `delay` before.
        """
        if not self.n_rounds:
            return audio
        logs = torch.cat([self._logs, self._contrast.logs(linear)], 1)
        valid = torch.cat([self._valid, valid], 1)
        targets = torch.cat([self._targets, self._contrast.targets(logs, valid)], 1)
        n_frames, made = linear.shape[1], torch.empty_like(audio)
        audio = torch.cat([self._audio, audio], 1)
        for f in range(n_frames):
            samples = slice(f * self._hop, f * self._hop + self._n_audio)
            frames = slice(f, f + self._n_open)
            for place, now in zip(
                self._read, (audio[:, samples], targets[:, frames], valid[:, frames]), strict=True
            ):
                place.copy_(now)
            self._go_on()
            made[:, f * self._hop : (f + 1) * self._hop] = self._made
        self._targets, self._valid = targets[:, n_frames:].clone(), valid[:, n_frames:].clone()
        self._logs = logs[:, n_frames:].clone()
        self._audio = audio[:, n_frames * self._hop :].clone()
        return made

    def _frame(self) -> None:
        """Take the open frames through the rounds, and close the oldest, whose audio (B, hop) comes out."""
        frames, low, (audio, targets, valid) = self._frames, self._low, self._read
        if low is not None:
            newest = (self._n_open - 1) * self._hop
            low.run(audio[:, newest : newest + self._width] * frames.window, targets, valid)
        audio = audio[:, : (self._n_open - 1) * self._hop + self._width]
        self._round(
            frames.estimate(audio, frames.shares(valid[:, :-1])), self._n_open - 1
        )  # the newest alone
        shares = frames.shares(valid)
        for _ in range(self.n_rounds):
            self._round(frames.estimate(audio, shares))
        made = frames.estimate(audio, shares)
        self._made.copy_(made[:, self._before : self._before + self._hop])
        frames.close(valid[:, :1])
        if low is not None:
            low.close(valid[:, :1])

    def _round(self, estimate: Tensor, first: int = 0) -> None:
        """Make the open frames from `first` on anew from one estimate."""
        _, targets, valid = self._read
        windows = self._frames.windows(estimate)[:, first:] * self._frames.window  # (B, open - first, width)
        spectra = torch.fft.rfft(windows, self._n_fft)  # (B, open - first, K)
        power = spectra.real.square() + spectra.imag.square()
        found = ((power if self._is_power else power.sqrt()) @ self._bank).clamp(min=LEAST)
        gains = self._exponent * torch.log(targets[:, first:] / found).clamp(-self._limit, self._limit)
        spectra = spectra * torch.exp(gains @ self._shares)
        if self._low is not None:
            spectra = self._low.put(spectra, first)
        signals = torch.fft.irfft(spectra, self._n_fft)[..., : self._width] * self._frames.window
        self._frames.open[:, first:] = torch.where(valid[:, first:, None] > 0, signals, 0.0)
