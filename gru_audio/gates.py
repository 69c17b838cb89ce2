"""The GRU's gates as a compiled loop for synthesis in float32 (synthesis/kernels.py); training has scan_loops.py.

numba and numpy alone; callers make every buffer. Vectors run over H, the recurrent size; gates come in
PyTorch's order: reset r, update z, new n.
"""

import numpy as np
import numpy.typing as npt

from gru_audio.jit import compiled

FloatArray = npt.NDArray[np.float32]

# Gates are never NaN: their inputs are finite, so LLVM may reorder and vectorise freely.
FAST = frozenset({"nnan", "ninf", "nsz", "arcp", "contract", "reassoc"})

_LOG2_E, _LN_2 = np.float32(1.4426950408889634), np.float32(0.6931471805599453)
_LARGEST = np.float32(30.0)  # beyond it sigmoid and tanh are flat in float32
_C2, _C3, _C4, _C5, _C6 = (np.float32(1 / n) for n in (2, 6, 24, 120, 720))
_ONE, _TWO, _HALF = np.float32(1), np.float32(2), np.float32(0.5)


@compiled(fastmath=set(FAST), inline="always")
def exp_parts(x: np.float32) -> tuple[np.float32, np.int32]:
    """e**x as mantissa and exponent, by a polynomial, since np.exp does not vectorise.

    The relative error is under 3e-7 near 0 and 2e-6 at 30.
    """
    y = min(max(x, -_LARGEST), _LARGEST) * _LOG2_E
    k = np.floor(y + _HALF)
    r = (y - k) * _LN_2
    return _ONE + r * (_ONE + r * (_C2 + r * (_C3 + r * (_C4 + r * (_C5 + r * _C6))))), np.int32(k)


@compiled(fastmath=set(FAST), error_model="numpy")  # which divides without a branch, and so in vectors
def gru_step(
    gates: FloatArray,
    product: FloatArray,
    bias: FloatArray,
    hidden: FloatArray,
    kept: FloatArray,
    mantissa: FloatArray,
    exponent: npt.NDArray[np.int32],
) -> None:
    """One step of one stream, in place.

    r = sigmoid(gates_r + product_r), z likewise, n = tanh(gates_n + r product_n), h = n + z (h - n), where
    the product's bias counts as part of it. Source: torch.nn.GRU's documentation.

    Args:
        gates: (3H,), what the inputs add.
        product: (3H,), W_hh h.
        bias: (3H,), b_hh.
        hidden: (H,), h before and after.
        kept: (4, H) receives r, z, n and product_n with its bias, which the way back needs.
        mantissa: (2H,) scratch.
        exponent: (2H,) scratch.
    """
    size = hidden.size
    scale = exponent.view(np.float32)  # 2**k, made from its bits
    for j in range(2 * size):
        mantissa[j], k = exp_parts(-(gates[j] + product[j] + bias[j]))
        exponent[j] = (k + 127) << 23
    for j in range(size):
        kept[0, j] = _ONE / (_ONE + mantissa[j] * scale[j])
        kept[1, j] = _ONE / (_ONE + mantissa[size + j] * scale[size + j])
    for j in range(size):
        inner = product[2 * size + j] + bias[2 * size + j]
        kept[3, j] = inner
        mantissa[j], k = exp_parts(-_TWO * (gates[2 * size + j] + kept[0, j] * inner))
        exponent[j] = (k + 127) << 23
    for j in range(size):
        n = _TWO / (_ONE + mantissa[j] * scale[j]) - _ONE
        kept[2, j] = n
        hidden[j] = n + kept[1, j] * (hidden[j] - n)
