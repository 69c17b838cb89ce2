"""How far made audio is from its reference, as plain functions of two clips.

The reference and what was made of it are (n,) float32 each, full scale 1, sample by sample the same stretch. A
clip that a measure cannot take raises AudioError; a package that is not installed raises ModuleNotFoundError.
"""

import contextlib
import io
import math
import warnings
from functools import lru_cache
from typing import Any

import numpy as np

from gru_audio.arrays import FloatArray
from gru_audio.config import MelConfig
from gru_audio.errors import AudioError
from gru_audio.quality.compiled_librosa import compiled_librosa
from gru_audio.quality.pitch_measures import WIDE_BAND_HZ
from gru_audio.signal.audio import resample
from gru_audio.signal.mel import log_mel, to_linear

_PESQ_SHORTEST_S, _PESQ_LONGEST_S = 0.25, 20.0
_PESQ_LOWEST = 1.04
_HALF_A_STEP = 0.5 / 32_768  # of 16 bits
_STOI_SHORTEST_S = 0.4
_RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))  # FFT, hop and window, in samples
_MAGNITUDE_FLOOR = 1e-4
_LEVEL_RANGE_DB = 80.0
"""Bands this far below the loudest of the reference count as silent."""
_N_CEPSTRA = 13
_QUIET_SHARE = 0.1
_QUIET_FRAME_S = 0.02
_QUIETEST_DBFS = -90.0  # an amplitude of one 16-bit step


def pesq(reference: FloatArray, made: FloatArray, sample_rate_hz: int) -> float:
    """Wide-band PESQ, 1.04 to 4.64; higher is better.

    A clip of more than 20 s is rated in equal pieces, and their mean taken: past 50 utterances, which cannot be
    closer than 0.4 s, the package ends the process. Made audio that is silent gets the lowest figure.

    Raises:
        AudioError: under 0.25 s, or no speech in the reference.

    Source: ITU-T P.862.2 (2007), through the package pesq.
    """
    import pesq as package

    _require_pair(reference, made)
    _require_length(reference, sample_rate_hz, _PESQ_SHORTEST_S, "PESQ")
    pair = [resample(audio, sample_rate_hz, WIDE_BAND_HZ) for audio in (reference, made)]
    n_pieces = math.ceil(pair[0].size / (_PESQ_LONGEST_S * WIDE_BAND_HZ))
    scores = []
    for pieces in zip(*(np.array_split(audio, n_pieces) for audio in pair), strict=True):
        with contextlib.suppress(package.NoUtterancesError):  # a pause as long as the piece
            if not is_silent(pieces[0]):
                silent = is_silent(pieces[1])  # which the package cannot rate
                scores.append(_PESQ_LOWEST if silent else package.pesq(WIDE_BAND_HZ, *pieces, "wb"))
    if not scores:
        raise AudioError("PESQ finds no speech in the reference; take a clip with speech")
    return float(np.mean(scores))


def stoi(reference: FloatArray, made: FloatArray, sample_rate_hz: int) -> float:
    """STOI, 0 to 1; higher is better.

    Raises:
        AudioError: less than 0.4 s of the reference is not silent.

    Source: Taal et al., An Algorithm for Intelligibility Prediction (2011), through the package pystoi.
    """
    return _stoi(reference, made, sample_rate_hz, extended=False)


def estoi(reference: FloatArray, made: FloatArray, sample_rate_hz: int) -> float:
    """Extended STOI, 0 to 1; higher is better. Errors are those of `stoi`.

    Source: Jensen & Taal, An Algorithm for Predicting the Intelligibility (2016), through the package pystoi.
    """
    return _stoi(reference, made, sample_rate_hz, extended=True)


def dnsmos(audio: FloatArray, sample_rate_hz: int) -> float:
    """DNSMOS P.835's overall score of one clip (n,) without a reference, 1 to 5; higher is better.

    Raises:
        AudioError: the clip is empty or silent.

    Source: Reddy et al., DNSMOS P.835 (2022), through the package speechmos.
    """
    from speechmos import dnsmos as package

    if is_silent(audio):
        raise AudioError("the clip is silent; DNSMOS rates speech")
    wide_band = np.clip(resample(audio, sample_rate_hz, WIDE_BAND_HZ), -1, 1)
    return float(package.run(wide_band, WIDE_BAND_HZ)["ovrl_mos"])


def distillmos(audio: FloatArray, sample_rate_hz: int) -> float:
    """DistillMOS of one clip (n,) without a reference, 1 to 5; higher is better.

    Raises:
        AudioError: the clip is empty or silent.

    Source: Stahl & Gamper, Distillation and Pruning for Scalable Self-Supervised Representation-Based Speech Quality
    Assessment (2025), through the package distillmos.
    """
    import torch

    if is_silent(audio):
        raise AudioError("the clip is silent; DistillMOS rates speech")
    wide_band = np.ascontiguousarray(resample(audio, sample_rate_hz, WIDE_BAND_HZ), np.float32)
    with torch.inference_mode():
        return float(distillmos_model()(torch.from_numpy(wide_band)[None])[0])


@lru_cache(maxsize=1)
def distillmos_model() -> Any:
    import distillmos as package

    with contextlib.redirect_stdout(io.StringIO()):  # it tells where its weights lie
        return package.ConvTransformerSQAModel().eval()


def log_mel_distance_db(
    reference: FloatArray, made: FloatArray, sample_rate_hz: int, contract: MelConfig | None = None
) -> float:
    """RMS over bands of the difference of mel levels, mean over frames, in dB; lower is better.

    Levels more than 80 dB below the reference's loudest band count as that.

    Args:
        reference: (n,).
        made: (n,).
        sample_rate_hz: of both.
        contract: of the mel; the default one, at 16 kHz, if None. Audio at another rate is resampled.

    Raises:
        AudioError: shorter than a frame, or a silent reference.
    """
    difference = np.subtract(*mel_levels_db(reference, made, sample_rate_hz, contract))  # (F, M)
    return float(np.sqrt(np.mean(difference**2, axis=1)).mean())


def mel_cepstral_distortion_db(
    reference: FloatArray, made: FloatArray, sample_rate_hz: int, contract: MelConfig | None = None
) -> float:
    """Distance of the envelopes of the mel, level apart, frame by frame and without warping, in dB; lower is better.

    Cepstra 1 to 13 are the cosine series of the log-mel's magnitudes over the bands, so the figure is the RMS
    over the bands of the difference of their smooth parts. For arguments and errors see `log_mel_distance_db`.

    Source: Kubichek, Mel-Cepstral Distance Measure (1993), eq. 3, on a mel filterbank's log magnitudes.
    """
    difference = np.subtract(*mel_levels_db(reference, made, sample_rate_hz, contract))  # (F, M)
    n_mels = difference.shape[1]
    places = np.pi * (np.arange(n_mels) + 0.5) / n_mels
    cosines = 2 * np.cos(np.outer(places, np.arange(1, 1 + _N_CEPSTRA))) / n_mels  # (M, cepstra)
    series = difference @ cosines
    return float(np.sqrt(np.sum(series**2, axis=1) / 2).mean())


def multi_resolution_stft_distance(reference: FloatArray, made: FloatArray) -> float:
    """Spectral convergence plus mean absolute difference of log magnitudes, mean of three STFTs; lower is better.

    The windows have the paper's lengths in samples at every rate, so that only figures at one rate compare.

    Raises:
        AudioError: under 2048 samples, or a silent reference.

    Source: Yamamoto et al., Parallel WaveGAN (2020), eqs. 3 to 6 and table 1.
    """
    librosa = compiled_librosa()

    _require_pair(reference, made)
    if reference.size < (longest := max(n_fft for n_fft, _, _ in _RESOLUTIONS)):
        raise AudioError(f"{reference.size} samples: the STFT distance takes at least {longest}")
    total = 0.0
    for n_fft, hop, window in _RESOLUTIONS:
        x, y = (
            np.maximum(
                np.abs(librosa.stft(audio, n_fft=n_fft, hop_length=hop, win_length=window)), _MAGNITUDE_FLOOR
            )
            for audio in (reference, made)
        )
        total += float(np.linalg.norm(x - y) / np.linalg.norm(x) + np.abs(np.log(x / y)).mean())
    return total / len(_RESOLUTIONS)


def silence_level_db(reference: FloatArray, made: FloatArray, sample_rate_hz: int) -> float:
    """How much louder the made audio is where the reference is quietest, in dB; hiss in pauses is above 0.

    Of frames of 20 ms the tenth with the lowest level in the reference counts. The figure is the mean over them of
    the made frame's level less the reference's; below -90 dBFS both count as that.

    Raises:
        AudioError: shorter than a frame.
    """
    _require_same_length(reference, made)
    frame_samples = round(_QUIET_FRAME_S * sample_rate_hz)
    n_frames = reference.size // frame_samples
    if not n_frames:
        raise AudioError(f"{reference.size / sample_rate_hz:.3f} s: shorter than a frame of 0.02 s")
    levels = []
    for audio in (reference, made):
        frames = audio[: n_frames * frame_samples].reshape(n_frames, frame_samples)
        power = np.mean(np.square(frames, dtype=np.float64), axis=1)
        levels.append(10 * np.log10(np.maximum(power, 10 ** (_QUIETEST_DBFS / 10))))
    quietest = np.argsort(levels[0], kind="stable")[: max(1, round(_QUIET_SHARE * n_frames))]
    return float(np.mean(levels[1][quietest] - levels[0][quietest]))


def _stoi(reference: FloatArray, made: FloatArray, sample_rate_hz: int, *, extended: bool) -> float:
    import pystoi

    _require_pair(reference, made)
    _require_length(reference, sample_rate_hz, _STOI_SHORTEST_S, "STOI")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Not enough STFT frames", RuntimeWarning)
        try:
            return float(pystoi.stoi(reference, made, sample_rate_hz, extended=extended))
        except RuntimeWarning as error:
            raise AudioError(
                f"STOI takes at least {_STOI_SHORTEST_S:g} s that is not silent; take a longer clip"
            ) from error


def mel_levels_db(
    reference: FloatArray, made: FloatArray, sample_rate_hz: int, contract: MelConfig | None
) -> tuple[FloatArray, FloatArray]:
    """(F, M) magnitudes of both in dB, none lower than the range below the reference's loudest."""
    _require_pair(reference, made)
    contract = contract or MelConfig()
    factor = 20 / contract.spectrum_power
    levels = []
    for audio in (reference, made):
        mel = log_mel(resample(audio, sample_rate_hz, contract.sample_rate_hz), contract)
        if not mel.size:
            raise AudioError(f"{audio.size / sample_rate_hz:.3f} s: shorter than a frame of the mel")
        levels.append(factor * np.log10(to_linear(mel, contract)))
    lowest = levels[0].max() - _LEVEL_RANGE_DB
    return np.maximum(levels[0], lowest), np.maximum(levels[1], lowest)


def is_silent(audio: FloatArray) -> bool:
    """Whether a 16-bit file would hold nothing but zeros."""
    return float(np.abs(audio).max(initial=0.0)) < _HALF_A_STEP


def _require_pair(reference: FloatArray, made: FloatArray) -> None:
    _require_same_length(reference, made)
    if is_silent(reference):
        raise AudioError("the reference is silent; there is nothing to compare with")


def _require_same_length(reference: FloatArray, made: FloatArray) -> None:
    if reference.shape != made.shape or reference.ndim != 1:
        raise AudioError(
            f"reference of shape {reference.shape}, made audio of shape {made.shape}; cut both to the same (n,)"
        )


def _require_length(audio: FloatArray, sample_rate_hz: int, shortest_s: float, measure: str) -> None:
    if audio.size < shortest_s * sample_rate_hz:
        raise AudioError(
            f"{audio.size / sample_rate_hz:.2f} s: {measure} takes at least {shortest_s:g} s; take a longer clip"
        )
