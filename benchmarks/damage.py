"""Seeded damage to a whole file, for `damaged_inputs.py`."""

import json
import math
import random
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gru_audio.voice.tensor_file import read_tensor_file, write_tensor_file

ODD: tuple[Any, ...] = (
    None,
    True,
    "",
    "²",
    [],
    {},
    -1,
    0,
    1.5,
    2**31,
    2**63,
    10**30,
    1e308,
    float("nan"),
    float("inf"),
    "x" * 5_000,
)
FINITE = tuple(value for value in ODD if not isinstance(value, float) or math.isfinite(value))
ODD_TEXTS = (
    b"1e999",
    b"9" * 5_000,
    b"null",
    b"[" * 100_000,
    b'{"a":' * 20_000,
    b"-1",
    b"\xff",
    b"\x00",
    b"../../x",
)
FIELDS = (0, 1, 2, 255, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)


def damaged(whole: Path, path: Path, dice: random.Random) -> str:
    """Write a damaged copy of a file; the name of the damage comes back."""
    ways: list[Callable[[bytes, random.Random], bytes]] = [flip, cut, join, field, nest, move]
    data = whole.read_bytes()
    if whole.stem == "mel" and dice.random() < 0.4:
        return odd_array(path, dice)
    if whole.suffix == ".safetensors" and whole.stem != "mel" and dice.random() < 0.5:
        return odd_tensor_file(whole, path, dice)
    if whole.suffix in {".json", ".jsonl", ".toml", ".csv", ".scp"} and dice.random() < 0.5:
        ways = [odd_value]
    way = dice.choice(ways)
    path.write_bytes(way(data, dice))
    return way.__name__


def flip(data: bytes, dice: random.Random) -> bytes:
    changed = bytearray(data)
    first = dice.choice((64, 512, len(data)))  # where a header is, more often
    for _ in range(dice.choice((1, 1, 4, 64))):
        changed[dice.randrange(min(first, len(data)))] ^= 1 << dice.randrange(8)
    return bytes(changed)


def cut(data: bytes, dice: random.Random) -> bytes:
    return data[: dice.choice((dice.randrange(16), dice.randrange(len(data)), len(data) - 1))]


def join(data: bytes, dice: random.Random) -> bytes:
    other = dice.choice((data, dice.randbytes(dice.randrange(1, 4_000)), b"\x00" * 4_000, b"ID3\x04\x00"))
    return dice.choice((data + other, other + data, data[: len(data) // 2] + other))


def field(data: bytes, dice: random.Random) -> bytes:
    size, order = dice.choice((1, 2, 4, 8)), dice.choice("<>")
    value = dice.choice(FIELDS) & (256**size - 1)
    place = dice.randrange(min(len(data), 96))
    return (
        data[:place]
        + struct.pack(order + {1: "B", 2: "H", 4: "I", 8: "Q"}[size], value)
        + data[place + size :]
    )


def nest(data: bytes, dice: random.Random) -> bytes:
    place = dice.randrange(min(len(data), 2_000))
    return (
        data[:place]
        + dice.choice((b"[", b'{"a":', b"[[", b"a.")) * dice.choice((10, 1_000, 100_000))
        + data[place:]
    )


def move(data: bytes, dice: random.Random) -> bytes:
    """A stretch is left out, or is there twice."""
    first, last = sorted(dice.randrange(len(data)) for _ in range(2))
    return data[:first] + data[last:] if dice.random() < 0.5 else data[:last] + data[first:]


def odd_value(data: bytes, dice: random.Random) -> bytes:
    """Something between two marks becomes something else."""
    marks = [n for n, byte in enumerate(data) if byte in b'":,=[]{} \n']
    n = dice.randrange(len(marks) - 1)
    return data[: marks[n] + 1] + dice.choice(ODD_TEXTS) + data[marks[n + 1] :]


def odd_array(path: Path, dice: random.Random) -> str:
    """An array that is no mel, or one of odd values, shapes and types."""
    mel = np.random.default_rng(dice.randrange(1_000)).normal(-5, 2, (20, 80)).astype(np.float32)
    value = dice.choice((60.0, -3e38, 3e38, float("nan"), float("inf"), 1e5, -200.0))
    changed = mel.copy()
    changed[dice.randrange(20), dice.randrange(80)] = value
    shapes = (
        mel[:0],
        mel[:, :0],
        mel[0],
        mel[None],
        mel.T,
        mel[..., None, None],
        mel[0, 0],
        mel[:1],
        mel[:, :7],
    )
    types = [mel.astype(kind) for kind in ("f2", "f8", "i1", "i8", "?", "c8")]
    array = np.asarray(
        dice.choice((changed, changed, np.full_like(mel, value), dice.choice(shapes), dice.choice(types)))
    )
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".npz":
        named: tuple[dict[str, Any], ...] = (
            {"mel": array},
            {"mel": array, "contract": np.array(1)},
            {"a": array, "b": array},
        )
        np.savez(path, **dice.choice(named))
    elif path.suffix == ".pt":
        tensor = torch.from_numpy(array.copy())
        torch.save(dice.choice((tensor, {"mel": tensor}, [tensor], torch.zeros(1).expand(10**9))), path)
    else:
        from safetensors.numpy import save_file

        save_file({"mel": np.ascontiguousarray(array)}, path, dice.choice((None, {"contract": "[" * 9_000})))
    return "odd_array"


def odd_tensor_file(whole: Path, path: Path, dice: random.Random) -> str:
    """A document of wrong types, or a tensor of odd values, with the digest that fits."""
    kind = (
        "voice" if whole.name.startswith("voice") else "checkpoint" if whole.name.startswith("step") else None
    )
    if kind is None:
        path.write_bytes(odd_header(whole.read_bytes(), dice))
        return "odd_header"
    document, tensors = read_tensor_file(whole, kind)
    if dice.random() < 0.5:
        replace_one(document, dice, FINITE)
    else:
        name = dice.choice(sorted(tensors))
        array = np.array(tensors[name])
        if dice.random() < 0.5 and array.size and array.dtype.kind == "f":
            array.flat[dice.randrange(array.size)] = dice.choice(
                (float("nan"), float("inf"), 3e38, 1e5, -1e9)
            )
            tensors[name] = array
        else:
            tensors[name] = np.asarray(
                dice.choice((array.reshape(-1)[:0], array[None], array.astype("i4"), array * 0))
            )
    write_tensor_file(path, kind, document, tensors)
    return "odd_tensor_file"


def odd_header(data: bytes, dice: random.Random) -> bytes:
    """A safetensors file whose header of JSON has one odd value."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    replace_one(header, dice)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def replace_one(document: Any, dice: random.Random, odd: Sequence[Any] = ODD) -> None:
    """Replace one value, however deep, by an odd one, or leave it out."""
    keys = list(document) if isinstance(document, dict) else list(range(len(document)))
    key = dice.choice(keys)
    if isinstance(document[key], (dict, list)) and document[key] and dice.random() < 0.8:
        replace_one(document[key], dice, odd)
    elif dice.random() < 0.2:
        del document[key]
    else:
        document[key] = dice.choice(odd)
