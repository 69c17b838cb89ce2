"""Arrays out of .npy, .npz, .pt and .safetensors files: the one that is wanted, and no more than a file may bring.

What a header states is compared with what is there before memory is asked for, and nothing is unpickled.
"""

import math
import pickle
import warnings
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from gru_audio.errors import AudioError, MelError
from gru_audio.extras import require
from gru_audio.files import open_file
from gru_audio.safetensors_file import METADATA_KEY, SafetensorsFile
from gru_audio.signal.bounds import check_size

TENSOR = "mel"
CONTRACT = "mel_config"
_LARGEST_CONTRACT = 1 << 20  # bytes
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_npy(path: Path) -> tuple[Any, str | None]:
    """The array, and no contract."""
    with open_file(path) as file:
        return _array(file, path, path.stat().st_size), None


def read_npz(path: Path) -> tuple[Any, str | None]:
    """The mel's array, and the contract that another one states; no others are read."""
    with open_file(path) as file, zipfile.ZipFile(file) as archive:
        entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
        stated = None
        if (contract := entries.pop(CONTRACT, None)) is not None:
            _require_contract(contract.file_size, path)
            with archive.open(contract) as stream:
                stated = str(_array(stream, path, contract.file_size))
        wanted = entries[only(entries, path)]
        with archive.open(wanted) as stream:
            return _array(stream, path, wanted.file_size), stated


def read_pt(path: Path) -> tuple[Any, str | None]:
    """The mel's tensor as float32, and no contract."""
    require("train", str(path), "torch")
    import torch

    is_zip = zipfile.is_zipfile(path)
    if is_zip:
        with zipfile.ZipFile(path) as archive:
            _require_size(sum(entry.file_size for entry in archive.infolist()), path)
    try:
        with warnings.catch_warnings():  # torch's advice to its own developers
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:  # its text tells how to read the file nevertheless
        raise MelError(
            f"{path}: holds more than tensors, or is no .pt file; it is not read, as that could run code: save the "
            "mel alone, with torch.save(mel, path)"
        ) from error
    tensors = content if isinstance(content, dict) else {TENSOR: content}
    tensor = tensors[only(tensors, path)]
    if not isinstance(tensor, torch.Tensor):
        raise MelError(f"{path}: holds a {type(tensor).__name__}, not a tensor")
    if tensor.is_complex() or tensor.dtype == torch.bool:
        raise MelError(f"{path}: holds {tensor.dtype}, a mel holds real numbers")
    if tensor.layout != torch.strided:
        raise MelError(f"{path}: holds a sparse tensor; save mel.to_dense()")
    _require_size(4 * tensor.numel(), path)  # an expanded one states more values than it stores
    return tensor.detach().to(torch.float32, copy=True).numpy(), None


def read_safetensors(path: Path) -> tuple[Any, str | None]:
    """The mel's tensor, and the contract in the metadata."""
    with SafetensorsFile(path) as file:
        if METADATA_KEY in file.metadata:
            raise MelError(
                f"{path}: a voice, a checkpoint or a dataset's shard, not a mel; give a mel or audio"
            )
        stated, name = file.metadata.get(CONTRACT), only(file.names, path)
        _require_contract(len(stated or ""), path)
        _require_size(4 * math.prod(file.layout(name)[1]), path)
        return file.tensor(name), stated


def only(names: Iterable[str], path: Path) -> str:
    """The entry called `mel`, or the only one there is."""
    known = list(names)
    if TENSOR in known:
        return TENSOR
    if len(known) == 1:
        return known[0]
    shown = ", ".join(sorted(map(str, known))[:5]) or "none"
    raise MelError(f"{path}: holds {len(known)} arrays ({shown}); name the mel '{TENSOR}', or keep it alone")


def _array(stream: IO[bytes], path: Path, most_bytes: int) -> npt.NDArray[Any]:
    """An array in NumPy's format, of a stream that holds no more than so many bytes.

    Source: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
    """
    version = np.lib.format.read_magic(stream)
    if version not in _HEADERS:
        raise ValueError(f"it is of version {version[0]}.{version[1]}, which is for tables")
    shape, is_fortran, dtype = _HEADERS[version](stream)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, not numbers")
    n_bytes = math.prod(shape) * dtype.itemsize
    if not 0 <= n_bytes <= most_bytes or min(shape, default=0) < 0:
        raise ValueError(f"it states an array of shape {shape}, and has {most_bytes} bytes")
    _require_size(n_bytes, path)
    data = stream.read(n_bytes)
    if len(data) < n_bytes:
        raise ValueError(f"it was cut short: {len(data)} bytes in place of {n_bytes}")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if is_fortran else "C")


def _require_contract(n_bytes: int, path: Path) -> None:
    if n_bytes > _LARGEST_CONTRACT:
        raise MelError(f"{path}: the contract it states has {n_bytes} bytes")


def _require_size(n_bytes: int, path: Path) -> None:
    """Make sure that a file brings no more into memory than one may."""
    try:
        check_size(n_bytes / 4, str(path), path.stat().st_size)
    except AudioError as error:
        raise MelError(str(error)) from error
