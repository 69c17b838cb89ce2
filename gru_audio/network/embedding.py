"""How the sample network reads codes: a table for each, whose rows are added up. Shapes: see model.py."""

import torch
from torch import Tensor, nn

from gru_audio.network.gpu.embedding import row_sums

_EMBEDDING_SPREAD = 0.5  # size of the ramp over the codes with which embeddings start
_EMBEDDING_NOISE = 0.05


class SummedEmbedding(nn.Module):
    """One table for each column of codes; a row's entries are added up."""

    offsets: Tensor

    def __init__(self, n_tables: int, n_classes: int, size: int) -> None:
        """Make the tables, not filled yet."""
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_tables, n_classes, size))
        self.register_buffer("offsets", torch.arange(n_tables) * n_classes, persistent=False)

    def forward(self, codes: Tensor) -> Tensor:
        """(B, K, n_tables) codes -> (B, K, size)."""
        if codes.device.type == "cuda":
            return row_sums(self.weight, codes.flatten(0, 1)).view(*codes.shape[:2], -1)
        rows = self.rows(codes).flatten(0, 1)  # (B K, n_tables)
        summed = nn.functional.embedding_bag(rows, self.table, mode="sum")
        return summed.view(*codes.shape[:2], -1)

    def rows(self, codes: Tensor) -> Tensor:
        """(B, K, n_tables) codes -> their rows in `table`."""
        return codes + self.offsets

    @property
    def table(self) -> Tensor:
        """(n_tables Q, size), all tables one under the other."""
        return self.weight.flatten(0, 1)


def ramp_embedding(n_tables: int, n_classes: int, size: int) -> SummedEmbedding:
    """Tables that start as a ramp over the codes plus small noise, so that a code's order is known at once."""
    embedding = SummedEmbedding(n_tables, n_classes, size)
    ramp = torch.linspace(-1, 1, n_classes)[:, None]
    direction = torch.randn(n_tables, 1, size) * _EMBEDDING_SPREAD
    with torch.no_grad():
        embedding.weight.copy_(ramp * direction + torch.randn_like(embedding.weight) * _EMBEDDING_NOISE)
    return embedding
