"""Mels in files, as other people's TTS writes them: .npy, .npz, .pt and .safetensors.

A file may state its contract: a JSON object with MelConfig's keys, as the string array `mel_config` of an
.npz or the metadata entry `mel_config` of a .safetensors. Nothing is unpickled.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from gru_audio.arrays import FloatArray
from gru_audio.config import MelConfig
from gru_audio.documents import DocumentError, parse_json
from gru_audio.errors import MelError, first_line, with_what_was_got
from gru_audio.extras import require
from gru_audio.files import atomic_path, why_no_file
from gru_audio.signal.mel import check_mel, orient
from gru_audio.signal.mel_arrays import CONTRACT, TENSOR, read_npy, read_npz, read_pt, read_safetensors

MEL_SUFFIXES = frozenset({".npy", ".npz", ".pt", ".safetensors"})

_USUAL_BANDS = frozenset({40, 64, 80, 100, 128})


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
    if (reason := why_no_file(path)) is not None:
        raise MelError(f"{path}: {reason.replace('not a file', 'not a mel file')}; check the path")
    if path.suffix.lower() not in MEL_SUFFIXES:
        raise MelError(f"{path}: not a mel file; known are {', '.join(sorted(MEL_SUFFIXES))}")
    if path.stat().st_size == 0:
        raise MelError(f"{path}: the file is empty (0 bytes); replace it")
    try:
        values, stated = _READERS[path.suffix.lower()](path)
    except MelError:
        raise
    except Exception as error:  # the readers' libraries raise errors of every kind on a damaged file
        reason = first_line(error)
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


def write_mel(path: Path, mel: FloatArray, contract: MelConfig) -> None:
    """Write a mel atomically; a format that has a place for it states the contract.

    Args:
        path: its suffix, one of `MEL_SUFFIXES`, says the format.
        mel: the array as it shall lie, (F, M) or (M, F).
        contract: how the mel was made.

    Raises:
        OutputError: it cannot be written.
        MissingPackageError: a .pt without torch.
    """
    mel, stated = np.ascontiguousarray(mel), json.dumps(contract.model_dump())
    if path.suffix == ".pt":
        require("train", str(path), "torch")
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        if path.suffix == ".npy":
            np.save(file, mel)
        elif path.suffix == ".npz":
            arrays: dict[str, Any] = {TENSOR: mel, CONTRACT: np.array(stated)}
            np.savez(file, **arrays)
        elif path.suffix == ".pt":
            import torch

            torch.save(torch.from_numpy(mel), file)
        else:
            from safetensors.numpy import save

            file.write(save({TENSOR: mel}, {CONTRACT: stated}))


def _likely_bands(shape: tuple[int, ...]) -> int:
    """How many bands an array without a contract has; of the default contract's, if an axis fits, as in synthesis."""
    if len(shape) < 2:
        return 0
    usual = next(
        (n for n in (MelConfig().n_mels, *shape[:-3:-1]) if n in shape[-2:] and n in _USUAL_BANDS), 0
    )
    return usual or shape[-1]


_READERS = {".npy": read_npy, ".npz": read_npz, ".pt": read_pt, ".safetensors": read_safetensors}


def _parse(stated: str, path: Path) -> MelConfig:
    try:
        return MelConfig.model_validate(parse_json(stated))
    except (DocumentError, ValidationError) as error:
        raise MelError(
            f"{path}: the contract it states is not valid: {_reason(error)}; write MelConfig's keys"
        ) from error


def _reason(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    return "; ".join(
        ": ".join([*map(str, item["loc"]), with_what_was_got(item["msg"], item["input"])])
        if item["loc"]
        else item["msg"]
        for item in error.errors()
    )
