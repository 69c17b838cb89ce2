"""Work in shares, one for each of torch's threads."""

import threading

import pytest
from support.threads import torch_threads

from gru_audio.network.cpu.shares import in_shares


@pytest.mark.parametrize(
    ("n_threads", "size", "whole", "expected"),
    [
        (1, 10, 1, [(0, 10)]),
        (2, 10, 1, [(0, 5), (5, 10)]),
        (3, 10, 1, [(0, 3), (3, 6), (6, 10)]),
        (8, 3, 1, [(0, 1), (1, 2), (2, 3)]),
        (2, 37, 16, [(0, 16), (16, 37)]),
        (4, 16, 16, [(0, 16)]),
        (2, 0, 1, [(0, 0)]),
    ],
)
def test_shares_are_even_and_end_where_they_may(
    n_threads: int, size: int, whole: int, expected: list[tuple[int, int]]
) -> None:
    with torch_threads(n_threads):
        assert in_shares(lambda begin, end: (begin, end), size, whole) == expected


def test_shares_go_side_by_side_and_errors_are_raised() -> None:
    all_there = threading.Barrier(3, timeout=60)

    def meet(begin: int, end: int) -> int:
        all_there.wait()
        return end - begin

    def fail(begin: int, end: int) -> None:
        if begin:
            raise ValueError("of another thread")

    with torch_threads(3):
        assert in_shares(meet, 3) == [1, 1, 1]
        with pytest.raises(ValueError, match="of another thread"):
            in_shares(fail, 3)
