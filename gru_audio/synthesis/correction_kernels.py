"""Loops of the spectral correction: what each bin of a frame's spectrum is multiplied by, and overlap-add.

Shapes: F frames, M mel bands, N bins of the spectrum, W samples of the window.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from gru_audio.jit import compiled

FloatArray = npt.NDArray[np.float32]


@compiled(error_model="numpy")
def correct_spectra(
    spectra: npt.NDArray[np.complex64],
    targets: FloatArray,
    filters: FloatArray,
    first_bins: npt.NDArray[np.int64],
    shares: FloatArray,
    is_power: bool,
    exponent: float,
    limit: float,
) -> None:
    """Multiply each spectrum by gains that bring its mel nearer to the target, in place.

    A band's gain is (target / found)**exponent, a bin's the geometric mean of the gains of the bands over it.

    Args:
        spectra: (F, N).
        targets: (F, M) linear mel that is wanted.
        filters: (M, L), each band's filter from its first bin on, zeros after its end.
        first_bins: (M,), where each filter begins; first_bins + L is at most N.
        shares: (M, L), each filter's share of all filters over the same bin.
        is_power: the mel is of |X|**2 rather than |X|.
        exponent: see above; of a power it counts half.
        limit: the ratio of target and found is cut to 1 / limit and limit.
    """
    n_bands, length = filters.shape
    size = np.empty(spectra.shape[1], np.float32)
    gain = np.empty(spectra.shape[1], np.float32)
    smallest, log_limit = np.float32(1e-20), math.log(limit)
    for f in range(spectra.shape[0]):
        spectrum = spectra[f]
        for k in range(size.size):
            power = spectrum[k].real * spectrum[k].real + spectrum[k].imag * spectrum[k].imag
            size[k] = power if is_power else np.sqrt(power)
            gain[k] = np.float32(0)
        for m in range(n_bands):
            first, found = first_bins[m], np.float32(0)
            for i in range(length):
                found += filters[m, i] * size[first + i]
            ratio = math.log(max(targets[f, m], smallest) / max(found, smallest))
            log_gain = np.float32(exponent * min(max(ratio, -log_limit), log_limit))
            for i in range(length):
                gain[first + i] += shares[m, i] * log_gain
        for k in range(size.size):
            spectrum[k] *= np.exp(gain[k])


@compiled()
def overlap_add(
    frames: FloatArray, valid: npt.NDArray[np.bool_], window: FloatArray, hop: int, sums: Any, weights: Any
) -> None:
    """Add windowed frames (F, W), one every `hop` samples, to sums (n,), and the windows' squares to weights (n,)."""
    for f in range(frames.shape[0]):
        if valid[f]:
            for i in range(window.size):
                sums[f * hop + i] += frames[f, i] * window[i]
                weights[f * hop + i] += window[i] * window[i]
