"""Each way to multiply on a CPU with each instruction set."""

import contextlib
from collections.abc import Iterator
from itertools import product

import pytest

from gru_audio.native import instruction_sets, library
from gru_audio.network.cpu.block_products import can_use_tiles


def with_all_sets(*ways: str) -> list[tuple[str, str]]:
    """Each instruction set with each of these ways, the portable form of pairs included; and tiles, AMX's."""
    return [*product(instruction_sets.supported(), ways), ("avx512bf16", "tiles")]


@contextlib.contextmanager
def using_way(instructions: str, way: str) -> Iterator[None]:
    """Within it the set is in use; the test is skipped where the machine lacks it, or AMX for tiles."""
    if instructions not in instruction_sets.supported():
        pytest.skip(f"no {instructions}")
    with library.using(instructions):
        if way == "tiles" and not can_use_tiles():
            pytest.skip("no AMX")
        yield
