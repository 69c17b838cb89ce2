"""Mels in files, as other people's TTS writes them: .npy, .npz, .pt and .safetensors.

A file may state its contract: a JSON object with MelConfig's keys, as the string array `mel_config` of an
.npz or the metadata entry `mel_config` of a .safetensors. Nothing is unpickled.
"""

import json
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from gru_audio.arrays import FloatArray
from gru_audio.config import MelConfig
from gru_audio.errors import MelError
from gru_audio.extras import require
from gru_audio.signal.mel import check_mel, orient

MEL_SUFFIXES = frozenset({".npy", ".npz", ".pt", ".safetensors"})

_USUAL_BANDS = frozenset({40, 64, 80, 100, 128})
_TENSOR = "mel"
_CONTRACT = "mel_config"


def read_mel(
    path: Path, contract: MelConfig | None = None, tell: Callable[[str], None] = lambda guess: None
) -> tuple[FloatArray, MelConfig | None]:
    """Read a mel.

    Args:
        path: the file; one that holds several arrays must name the mel `mel`.
        contract: the contract it is said to keep, for a file that states none.
        tell: is given, in words, what had to be guessed of the array's layout.

    Returns:
        The mel (F, M) and its contract: the file's own, else the given one, else None (the axis of bands is then the
        one with a usual number of them, the last if in doubt).

    Raises:
        MelError: no such file, not a mel, several arrays, a wrong shape, or NaN or infinite values.
    """
    if not path.is_file():
        raise MelError(f"{path}: {'is a folder, not a mel file' if path.is_dir() else 'no such file'}")
    if path.suffix.lower() not in MEL_SUFFIXES:
        raise MelError(f"{path}: not a mel file; known are {', '.join(sorted(MEL_SUFFIXES))}")
    try:
        values, stated = _READERS[path.suffix.lower()](path)
    except MelError:
        raise
    except Exception as error:  # the readers' libraries raise errors of every kind on a damaged file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MelError(
            f"{path}: cannot be read as {path.suffix.lower()}: {reason}; write it again"
        ) from error
    contract = _parse(stated, path) if stated is not None else contract
    n_mels = contract.n_mels if contract else _likely_bands(np.shape(values))
    if not 8 <= n_mels <= 512:
        raise MelError(f"{path}: shape {np.shape(values)}, a mel is (n_frames, n_mels)")
    turned, guess = orient(values, n_mels, str(path))
    if guess:
        tell(guess)
    return check_mel(turned, contract or MelConfig(n_mels=n_mels), str(path)), contract


def _likely_bands(shape: tuple[int, ...]) -> int:
    """How many bands an array without a contract has; of the default contract's, if an axis fits, as in synthesis."""
    if len(shape) < 2:
        return 0
    usual = next(
        (n for n in (MelConfig().n_mels, *shape[:-3:-1]) if n in shape[-2:] and n in _USUAL_BANDS), 0
    )
    return usual or shape[-1]


def _read_npy(path: Path) -> tuple[Any, str | None]:
    return np.load(path, allow_pickle=False), None


def _read_npz(path: Path) -> tuple[Any, str | None]:
    # Opened here, because numpy leaves a damaged archive open.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        stated = str(arrays[_CONTRACT]) if _CONTRACT in arrays else None
        return _only({name: arrays[name] for name in arrays if name != _CONTRACT}, path), stated


def _read_pt(path: Path) -> tuple[Any, str | None]:
    require("train", str(path))
    import torch

    try:
        with warnings.catch_warnings():  # torch's advice to its own developers
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # its text tells how to read the file nevertheless
        raise MelError(
            f"{path}: holds more than tensors, or is no .pt file; it is not read, as that could run code: save the "
            "mel alone, with torch.save(mel, path)"
        ) from error
    tensors = content if isinstance(content, dict) else {_TENSOR: content}
    tensor = _only(tensors, path)
    if not isinstance(tensor, torch.Tensor):
        raise MelError(f"{path}: holds a {type(tensor).__name__}, not a tensor")
    if tensor.is_complex() or tensor.dtype == torch.bool:
        raise MelError(f"{path}: holds {tensor.dtype}, a mel holds real numbers")
    return tensor.detach().float().numpy(), None


def _read_safetensors(path: Path) -> tuple[Any, str | None]:
    from safetensors import safe_open

    with safe_open(str(path), framework="numpy") as file:
        stated = (file.metadata() or {}).get(_CONTRACT)
        names = list(file.keys())
        return file.get_tensor(_only({name: name for name in names}, path)), stated


_READERS = {".npy": _read_npy, ".npz": _read_npz, ".pt": _read_pt, ".safetensors": _read_safetensors}


def _only(named: dict[str, Any], path: Path) -> Any:
    """The entry called `mel`, or the only one there is."""
    if _TENSOR in named:
        return named[_TENSOR]
    if len(named) == 1:
        return next(iter(named.values()))
    names = ", ".join(sorted(map(str, named))[:5]) or "none"
    raise MelError(f"{path}: holds {len(named)} arrays ({names}); name the mel '{_TENSOR}', or keep it alone")


def _parse(stated: str, path: Path) -> MelConfig:
    try:
        return MelConfig.model_validate(json.loads(stated))
    except (json.JSONDecodeError, ValidationError) as error:
        raise MelError(
            f"{path}: the contract it states is not valid: {_reason(error)}; write MelConfig's keys"
        ) from error


def _reason(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    return "; ".join(": ".join([*map(str, item["loc"]), item["msg"]]) for item in error.errors())
