"""The kernel of the tables' gradient, in Triton's interpreter, against the products that torch writes out."""

import pytest
import torch

from gru_audio.network import triton_ready
from gru_audio.network.gpu.embedding import by_kernel, by_products, kernel_works


@pytest.mark.parametrize(
    ("n_rows", "n_tables", "n_classes", "size", "numbers"),
    [
        (1, 1, 2, 1, torch.float32),
        (70, 3, 16, 20, torch.float32),  # neither rows nor entries fill a block
        (
            2100,
            2,
            512,
            72,
            torch.float32,
        ),  # two blocks of classes, two of entries, some parts of two blocks of rows
        (70, 2, 256, 64, torch.float16),
    ],
)
def test_it_gives_what_the_products_give(
    n_rows: int, n_tables: int, n_classes: int, size: int, numbers: torch.dtype
) -> None:
    pytest.importorskip("triton", minversion="3.9")
    torch.manual_seed(n_rows)
    grad, codes = torch.randn(n_rows, size), torch.randint(n_classes, (n_rows, n_tables))
    found, expected = (by(grad, codes, n_classes, numbers).float() for by in (by_kernel, by_products))
    tolerance = 1e-5 if numbers == torch.float32 else 0.01
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_it_is_left_where_triton_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel_works.cache_clear()
    monkeypatch.setattr(triton_ready, "why_not", lambda _: "no Triton")
    assert not kernel_works(torch.device("cpu"), torch.float32)
    kernel_works.cache_clear()


def test_it_is_tried_first() -> None:
    pytest.importorskip("triton", minversion="3.9")
    kernel_works.cache_clear()
    assert kernel_works(torch.device("cpu"), torch.float32) == (triton_ready.is_interpreted())
