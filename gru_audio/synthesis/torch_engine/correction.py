"""The spectral correction of many streams at once on a device: the rule of ../correction.py, up to rounding.

See native/correction.c for the rule and its drawing. Here all B streams go on by a frame together:

    sums, weights (B, ..)     what closed frames add, and their windows' squares
    open (B, open, width)     what open frames are now, 0 where there is none
"""

import math

import torch
from torch import Tensor

from gru_audio.arrays import FloatArray
from gru_audio.config import MelConfig
from gru_audio.signal.mel import analysis_values, filterbank
from gru_audio.synthesis.correction_plan import delay_of, heard_filters, plan_of_contract, spectrum_power

_LEAST = 1e-20
_CONTRAST_FRAMES = 2  # before a frame and after it


class _Frames:
    """Frames of B streams that overlap: the closed ones summed, and the open ones."""

    def __init__(self, window: Tensor, hop: int, n_open: int, full: float, n_streams: int) -> None:
        """Begin; `full` is what of the windows' squares is enough."""
        self.window, self.hop, self._full = window, hop, full
        self._squares = window * window
        n_samples = (n_open - 1) * hop + len(window)
        self._sums = torch.zeros(n_streams, n_samples, device=window.device)
        self._weights = torch.zeros_like(self._sums)
        self.open = torch.zeros(n_streams, n_open, len(window), device=window.device)

    def estimate(self, known: Tensor) -> tuple[Tensor, Tensor]:
        """What is known of the samples (B, ..), and the share that the raw audio has; `known` (B, g) of the first g."""
        total, weights = self._sums.clone(), self._weights.clone()
        for g in range(known.shape[1]):
            place = slice(g * self.hop, g * self.hop + len(self.window))
            total[:, place] += self.open[:, g]
            weights[:, place] += self._squares * known[:, g, None]
        missing = (self._full - weights).clamp(min=0.0)
        return total / (weights + missing), missing / (weights + missing)

    def windows(self, samples: Tensor) -> Tensor:
        """The stretches (B, open, width) under the windows."""
        return samples.unfold(1, len(self.window), self.hop)

    def close(self, valid: Tensor) -> None:
        """Close the oldest frame, where there is one (B, 1), and move on by a hop."""
        width = len(self.window)
        self._sums[:, :width] += self.open[:, 0]
        self._weights[:, :width] += self._squares * valid
        self._sums, self._weights = (
            torch.nn.functional.pad(kept[:, self.hop :], (0, self.hop))
            for kept in (self._sums, self._weights)
        )
        self.open = torch.nn.functional.pad(self.open[:, 1:], (0, 0, 0, 1))


class _LowEnd:
    """The lowest bins of B streams' frames, in rounds of their own; see native/correction_low.h."""

    def __init__(self, config: MelConfig, bank: Tensor, shares: Tensor, n_streams: int) -> None:
        """Begin, with the filterbank (K, M) of the whole spectrum and the shares (M, K)."""
        plan = plan_of_contract(config)
        self._n_rounds, self._size, self._n_mels = (
            int(number) for number in (plan.low_n_rounds, plan.low_n_fft, plan.low_n_mels)
        )
        self._momentum, self._limit, self._unit = (
            float(number) for number in (plan.low_momentum, plan.low_limit, plan.low_unit)
        )
        self._is_power, self._whole_size = config.spectrum == "power", config.n_fft
        n_bins, device = self._size // 2 + 1, bank.device
        self._bank, self._shares = bank[:n_bins, : self._n_mels], shares[: self._n_mels, :n_bins]
        self._covered = self._shares.sum(0)
        window = torch.from_numpy(plan.held["low_window"].copy()).to(device)
        self._frames = _Frames(window, plan.low_hop, plan.n_open, plan.low_full, n_streams)
        self._raw = torch.zeros_like(self._frames.open)
        self._spectra = torch.zeros(n_streams, plan.n_open, n_bins, dtype=torch.complex64, device=device)

    def run(self, windowed: Tensor, targets: Tensor, valid: Tensor) -> None:
        """Take the open frames through its rounds; `windowed` (B, width) is the raw audio under the newest window."""
        spectra = torch.fft.rfft(windowed, self._whole_size)[:, : self._size // 2 + 1].clone()
        self._raw[:, -1] = self._signals(spectra * (self._size / self._whole_size))
        before = None
        for n in range(self._n_rounds):
            known, missing = self._frames.estimate(valid if n else valid[:, :-1])
            now = (
                self._frames.windows(known) * self._frames.window + self._frames.windows(missing) * self._raw
            )
            ahead = now if before is None else now + self._momentum * (now - before)
            before = now
            self._spectra = self._scaled(torch.fft.rfft(ahead, self._size), targets[..., : self._n_mels])
            signals = self._signals(self._spectra) * self._frames.window
            self._frames.open = torch.where(valid[..., None] > 0, signals, 0.0)

    def put(self, spectra: Tensor, first: int) -> Tensor:
        """Whole spectra (B, open - first, K), of the open frames from `first` on, with the low end in its place."""
        n_bins, whole = len(self._covered), self._whole_size / self._size
        low = torch.lerp(
            spectra[..., :n_bins], self._spectra[:, first:] * whole, self._covered.to(spectra.dtype)
        )
        return torch.cat([low, spectra[..., n_bins:]], -1)

    def close(self, valid: Tensor) -> None:
        """See `_Frames.close`."""
        self._frames.close(valid)
        self._raw = torch.nn.functional.pad(self._raw[:, 1:], (0, 0, 0, 1))

    def _scaled(self, spectra: Tensor, targets: Tensor) -> Tensor:
        power = spectra.real.square() + spectra.imag.square()
        found = (power if self._is_power else power.sqrt()) @ self._bank * self._unit
        gains = (targets / found.clamp(min=_LEAST)).clamp(1 / self._limit, self._limit)
        gains = gains.sqrt() if self._is_power else gains
        return spectra * (1 + (gains - 1) @ self._shares)

    def _signals(self, spectra: Tensor) -> Tensor:
        """Back to windows, without the highest bin, which no band has whole."""
        spectra[..., -1] = 0
        signals: Tensor = torch.fft.irfft(spectra, self._size)
        return signals[..., : len(self._frames.window)]


class _Contrast:
    """What stands out of a mel stands out more; see native/correction_contrast.h."""

    def __init__(self, config: MelConfig, n_before: int, n_after: int) -> None:
        """Begin, with how many frames are known before the newest open one, and after it."""
        plan = plan_of_contract(config)
        self._of_bands, self._of_frames, self._limit = (
            float(number) for number in (plan.contrast_of_bands, plan.contrast_of_frames, plan.contrast_limit)
        )
        self._floor, self._silent = float(plan.floor), float(plan.silent)
        self._power = spectrum_power(config)
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
        return torch.where(own > math.log(self._silent), heard, _LEAST) if self._silent else heard


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
        self._frames = _Frames(window, self._hop, self._n_open, float(plan.full), n_streams)
        self._low = _LowEnd(config, self._bank, self._shares, n_streams) if plan.low_n_rounds else None
        self._audio = torch.zeros(n_streams, self._n_audio - self._hop, device=device)
        self._contrast = _Contrast(config, self._n_open - 1, self.delay - self._n_open + 1)
        self._logs = torch.zeros(n_streams, self.delay, config.n_mels, device=device)
        self._targets = torch.zeros(n_streams, self._n_open - 1, config.n_mels, device=device)
        self._valid = torch.zeros(n_streams, self.delay, device=device)

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
        audio = torch.cat([self._audio, audio], 1)
        n_frames = linear.shape[1]
        made = [
            self._frame(
                audio[:, f * self._hop : f * self._hop + self._n_audio],
                targets[:, f : f + self._n_open],
                valid[:, f : f + self._n_open],
            )
            for f in range(n_frames)
        ]
        self._targets, self._valid = targets[:, n_frames:].clone(), valid[:, n_frames:].clone()
        self._logs = logs[:, n_frames:].clone()
        self._audio = audio[:, n_frames * self._hop :].clone()
        return torch.cat(made, 1)

    def _frame(self, audio: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
        """Take the open frames through the rounds, and close the oldest: the audio (B, hop) that comes out."""
        frames, low = self._frames, self._low
        if low is not None:
            newest = (self._n_open - 1) * self._hop
            low.run(audio[:, newest : newest + self._width] * frames.window, targets, valid)
        self._round(
            self._estimate(audio, valid[:, :-1]), targets, valid, self._n_open - 1
        )  # the newest alone
        for _ in range(self.n_rounds):
            self._round(self._estimate(audio, valid), targets, valid)
        made = self._estimate(audio, valid)[:, self._before : self._before + self._hop]
        frames.close(valid[:, :1])
        if low is not None:
            low.close(valid[:, :1])
        return made

    def _estimate(self, audio: Tensor, known: Tensor) -> Tensor:
        """The best guess at the audio of all open windows; see `_Frames.estimate`."""
        total, missing = self._frames.estimate(known)
        return total + missing * audio[:, : total.shape[1]]

    def _round(self, estimate: Tensor, targets: Tensor, valid: Tensor, first: int = 0) -> None:
        """Make the open frames from `first` on anew from one estimate."""
        windows = self._frames.windows(estimate)[:, first:] * self._frames.window  # (B, open - first, width)
        spectra = torch.fft.rfft(windows, self._n_fft)  # (B, open - first, K)
        power = spectra.real.square() + spectra.imag.square()
        found = ((power if self._is_power else power.sqrt()) @ self._bank).clamp(min=_LEAST)
        gains = self._exponent * torch.log(targets[:, first:] / found).clamp(-self._limit, self._limit)
        spectra = spectra * torch.exp(gains @ self._shares)
        if self._low is not None:
            spectra = self._low.put(spectra, first)
        frames = torch.fft.irfft(spectra, self._n_fft)[..., : self._width] * self._frames.window
        made = torch.where(valid[:, first:, None] > 0, frames, 0.0)
        self._frames.open = torch.cat([self._frames.open[:, :first], made], 1)
