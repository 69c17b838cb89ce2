"""The network's categorical distribution over mu-law codes, as a binary tree or as a softmax.

The tree has one logit for each of its Q - 1 inner nodes, in heap order: the root is 0, the children of
node i are 2i + 1 (bit 0, the lower codes) and 2i + 2 (bit 1). A logit is the log odds of bit 1, from the
most significant bit down, so P(code) is a product of `bits` sigmoids and the P of all codes sum to 1.
"""

import torch
from torch import Tensor
from torch.nn import functional


def negative_log_likelihood(output: str, logits: Tensor, codes: Tensor) -> Tensor:
    """-ln P(code) of each sample.

    Args:
        output: "tree" or "softmax".
        logits: (..., Q - 1) or (..., Q).
        codes: (...) integers 0 to Q - 1.

    Returns:
        (...) float32, in nats.
    """
    logits = logits.float()
    if output == "softmax":
        return functional.cross_entropy(
            logits.flatten(0, -2), codes.flatten().long(), reduction="none"
        ).view_as(codes)
    nodes, bits = _path(codes.long(), logits.shape[-1] + 1)
    picked = logits.gather(-1, nodes)  # (..., bits)
    return functional.softplus(torch.where(bits, -picked, picked)).sum(-1)


def log_probabilities(output: str, logits: Tensor) -> Tensor:
    """Natural log of every code's probability: (..., Q - 1) or (..., Q) logits to (..., Q), normalised."""
    logits = logits.float()
    if output == "softmax":
        return torch.log_softmax(logits, -1)
    nodes, bits = _path(torch.arange(logits.shape[-1] + 1, device=logits.device), logits.shape[-1] + 1)
    picked = logits[..., nodes]  # (..., Q, bits)
    return functional.logsigmoid(torch.where(bits, picked, -picked)).sum(-1)


def drawn(probability: Tensor, uniform: Tensor) -> Tensor:
    """The codes (B,) of probabilities (B, Q) at which uniform numbers (B,) in [0, 1) fall."""
    cumulative = probability.cumsum(-1)
    reached = cumulative <= (uniform * cumulative[:, -1])[:, None]
    return reached.sum(-1).clamp(max=probability.shape[-1] - 1)


def probabilities(
    output: str, logits: Tensor, temperature: float | Tensor = 1.0, tail_cut: float = 0.0
) -> Tensor:
    """The probabilities by which codes are drawn.

    Args:
        output: "tree" or "softmax".
        logits: (B, Q - 1) or (B, Q).
        temperature: every logit is divided by it, or by its row's (B, 1); below 1 the likelier branch gains.
        tail_cut: a branch (tree) or a code (softmax) less likely than this is never taken, unless it is the
            likeliest.

    Returns:
        (B, Q), which add up to 1, or to less where a softmax's tail was cut.
    """
    logits = logits.float() / temperature
    if output == "softmax":
        probability = torch.softmax(logits, -1)
        highest = probability.amax(-1, keepdim=True)
        probability = torch.where(probability < highest.clamp(max=tail_cut), 0.0, probability)
    else:
        right = torch.sigmoid(logits)  # (B, Q - 1)
        if tail_cut:
            right = torch.where(right < tail_cut, 0.0, torch.where(right > 1 - tail_cut, 1.0, right))
        branches = torch.stack([1 - right, right], -1)  # (B, Q - 1, 2)
        n_levels = right.shape[1].bit_length()
        probability = torch.ones_like(right[:, :1])  # of the root; then of each level's nodes
        for level in branches.split_with_sizes([1 << depth for depth in range(n_levels)], 1):
            # (B, n_nodes, 2) of a level
            probability = (probability.unsqueeze(2) * level).flatten(1)
    return probability


def _path(codes: Tensor, n_classes: int) -> tuple[Tensor, Tensor]:
    """The inner nodes (..., bits) on the way to each code, and the bits (..., bits) taken there."""
    n_bits = n_classes.bit_length() - 1
    levels = torch.arange(n_bits, device=codes.device)
    nodes = (1 << levels) - 1 + (codes[..., None] >> (n_bits - levels))
    bits = (codes[..., None] >> (n_bits - 1 - levels)) & 1
    return nodes, bits.bool()
