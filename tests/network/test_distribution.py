"""The output distribution: tree and softmax against their definitions, and the draws against the inverse CDF."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support.naive import inverse_cdf, tree_probabilities
from torch import Tensor

from gru_audio.config import load_config
from gru_audio.network import distribution
from gru_audio.network.distribution import drawn, log_probabilities, negative_log_likelihood

BITS = (6, 7, 8, 9, 10)
OUTPUTS = ("tree", "softmax")
LAST_UNIFORM = 1 - 2.0**-24  # the largest float32 below 1, and the largest that numpy's generator gives

Doubles = NDArray[np.float64]


def n_outputs(output: str, n_classes: int) -> int:
    return n_classes - (output == "tree")


def random_logits(output: str, n_classes: int, spread: float, n_rows: int = 1, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n_rows, n_outputs(output, n_classes), generator=generator) * spread


def probabilities(output: str, logits: Tensor) -> Doubles:
    """Of all codes, from one row of logits, by the definition."""
    values = logits.double().numpy()
    if output == "tree":
        return tree_probabilities(values)
    exponentials = np.exp(values - values.max())
    return np.asarray(exponentials / exponentials.sum())


def draw_all(
    output: str, logits: Tensor, uniforms: Doubles, temperature: float = 1.0, tail_cut: float = 0.0
) -> NDArray[np.int64]:
    """One draw from the same row of logits for each uniform."""
    rows = logits.expand(len(uniforms), -1)
    probability = distribution.probabilities(output, rows, temperature, tail_cut)
    codes = drawn(probability, torch.tensor(uniforms, dtype=torch.float32))
    assert codes.dtype == torch.int64
    return codes.numpy()


def test_output_sizes() -> None:
    assert [load_config("tiny", [f"model.output={kind}"]).n_outputs for kind in ("tree", "softmax")] == [
        255,
        256,
    ]


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("spread", [0.0, 1.0, 5.0])
def test_probabilities_are_the_definitions(output: str, bits: int, spread: float) -> None:
    logits = random_logits(output, 1 << bits, spread, n_rows=3)
    logs = log_probabilities(output, logits)
    assert logs.shape == (3, 1 << bits)
    for row, expected in zip(
        logs.double().exp().numpy(), map(probabilities, [output] * 3, logits), strict=True
    ):
        np.testing.assert_allclose(row, expected, rtol=2e-4, atol=1e-12)
        assert abs(row.sum() - 1) < 1e-5


@pytest.mark.parametrize("bits", BITS)
def test_a_tree_is_a_softmax(bits: int) -> None:
    """The log probabilities of a tree, given to a softmax as logits, are the same distribution."""
    tree = random_logits("tree", 1 << bits, 2.0, n_rows=64)
    equivalent = log_probabilities("tree", tree)
    torch.testing.assert_close(log_probabilities("softmax", equivalent), equivalent, atol=1e-5, rtol=1e-5)
    codes = torch.randint(1 << bits, (64,), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        negative_log_likelihood("tree", tree, codes),
        negative_log_likelihood("softmax", equivalent, codes),
        atol=1e-4,
        rtol=1e-5,
    )


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("output", OUTPUTS)
def test_nll_is_the_negated_log_probability(output: str, bits: int) -> None:
    n_classes = 1 << bits
    codes = torch.arange(n_classes).repeat(2).view(2, n_classes)
    logits = random_logits(output, n_classes, 3.0, n_rows=2 * n_classes).view(2, n_classes, -1)
    expected = -log_probabilities(output, logits).gather(-1, codes[..., None])[..., 0]
    found = negative_log_likelihood(output, logits, codes)
    assert found.shape == codes.shape
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_nll_of_half_precision_logits_is_summed_in_float32(output: str, dtype: torch.dtype) -> None:
    logits = random_logits(output, 256, 3.0, n_rows=16).to(dtype)
    codes = torch.arange(16, dtype=torch.int16) * 16
    found = negative_log_likelihood(output, logits, codes)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, negative_log_likelihood(output, logits.float(), codes.long()))


@pytest.mark.parametrize("bits", BITS)
def test_gradient_of_the_tree(bits: int) -> None:
    """d NLL / d logit is sigmoid(logit) - bit on the code's path, and nothing elsewhere."""
    n_classes = 1 << bits
    logits = random_logits("tree", n_classes, 2.0).requires_grad_()
    for code in (0, 1, n_classes // 2 - 1, n_classes // 2, n_classes - 1):
        (gradient,) = torch.autograd.grad(
            negative_log_likelihood("tree", logits, torch.tensor([code])).sum(), logits
        )
        expected, node = np.zeros(n_classes - 1), 0
        for level in range(bits):
            bit = code >> (bits - 1 - level) & 1
            expected[node] = 1 / (1 + np.exp(-float(logits.detach()[0, node]))) - bit
            node = 2 * node + 1 + bit
        np.testing.assert_allclose(gradient[0].numpy(), expected, atol=1e-6)


def test_gradient_of_the_softmax() -> None:
    logits = random_logits("softmax", 64, 2.0).requires_grad_()
    (gradient,) = torch.autograd.grad(
        negative_log_likelihood("softmax", logits, torch.tensor([5])).sum(), logits
    )
    expected = probabilities("softmax", logits.detach()[0]) - np.eye(64)[5]
    np.testing.assert_allclose(gradient[0].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("output", OUTPUTS)
def test_extreme_logits_stay_finite(output: str) -> None:
    logits = (torch.randn(8, n_outputs(output, 256)).sign() * 1e4).requires_grad_()
    nll = negative_log_likelihood(output, logits, torch.arange(8) * 32)
    assert torch.isfinite(nll).all()
    (gradient,) = torch.autograd.grad(nll.sum(), logits)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("spread", [0.5, 3.0])
def test_draws_invert_the_cumulative_distribution(output: str, bits: int, spread: float) -> None:
    logits = random_logits(output, 1 << bits, spread, seed=bits)
    expected = probabilities(output, logits[0])
    uniforms = np.random.default_rng(bits).random(2_000, np.float32).astype(np.float64)
    codes = draw_all(output, logits, uniforms)
    edges = np.cumsum(expected)
    clear = np.abs(uniforms[:, None] - edges).min(1) > 3e-6  # float32 rounding decides nearer ones
    assert clear.mean() > 0.98
    np.testing.assert_array_equal(codes[clear], [inverse_cdf(expected, u) for u in uniforms[clear]])


@pytest.mark.parametrize("bits", BITS)
def test_tree_and_softmax_draw_the_same(bits: int) -> None:
    tree = random_logits("tree", 1 << bits, 1.5, seed=bits)
    uniforms = np.random.default_rng(7).random(5_000, np.float32).astype(np.float64)
    from_tree = draw_all("tree", tree, uniforms)
    from_softmax = draw_all("softmax", log_probabilities("tree", tree), uniforms)
    assert np.mean(from_tree == from_softmax) > 0.99
    assert np.abs(from_tree - from_softmax).max() <= 1


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("output", OUTPUTS)
def test_edge_uniforms(output: str, bits: int) -> None:
    n_classes = 1 << bits
    flat = torch.zeros(1, n_outputs(output, n_classes))
    edges = np.array([0.0, 0.5, LAST_UNIFORM])
    np.testing.assert_array_equal(draw_all(output, flat, edges), [0, n_classes // 2, n_classes - 1])


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("tail_cut", [0.0, 0.001, 0.02, 0.3])
def test_no_uniform_draws_what_cannot_happen(output: str, tail_cut: float) -> None:
    """At the edges of the uniforms' range too, a code of probability 0 (by underflow or cut) never comes."""
    uniforms = np.array([0.0, 2.0**-24, 0.5, 1 - 2.0**-23, LAST_UNIFORM])
    for seed in range(50):
        logits = random_logits(output, 64, 40.0, seed=seed)
        expected = probabilities(output, logits[0])
        for code in draw_all(output, logits, uniforms, tail_cut=tail_cut):
            assert expected[code] > 1e-46  # the smallest float32 is 1.4e-45
            if output == "softmax":
                assert expected[code] >= min(tail_cut, expected.max()) - 1e-6


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("temperature", [0.5, 0.8, 1.3])
def test_temperature_divides_the_logits(output: str, temperature: float) -> None:
    logits = random_logits(output, 256, 2.0)
    uniforms = np.random.default_rng(3).random(2_000, np.float32).astype(np.float64)
    np.testing.assert_array_equal(
        draw_all(output, logits, uniforms, temperature), draw_all(output, logits / temperature, uniforms)
    )


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_cold_draw_is_the_likeliest(output: str) -> None:
    logits = random_logits(output, 256, 2.0)
    codes = draw_all(output, logits, np.array([0.0, 0.3, 0.7, LAST_UNIFORM]), temperature=1e-4)
    if output == "softmax":
        expected = int(logits.argmax())
    else:  # the likelier branch at each node
        node = 0
        while node < 255:
            node = 2 * node + 1 + int(logits[0, node] > 0)
        expected = node - 255
    np.testing.assert_array_equal(codes, expected)


def test_tail_cut_of_the_softmax_leaves_out_codes() -> None:
    logits = random_logits("softmax", 64, 2.0)
    expected = probabilities("softmax", logits[0])
    kept = np.where(expected < 0.01, 0.0, expected)
    assert 3 < np.count_nonzero(kept) < 40
    uniforms = np.random.default_rng(0).random(4_000, np.float32).astype(np.float64)
    codes = draw_all("softmax", logits, uniforms, tail_cut=0.01)
    wanted = np.array([inverse_cdf(kept / kept.sum(), u) for u in uniforms])
    assert np.mean(codes == wanted) > 0.999


@pytest.mark.parametrize("uniform", [0.0, 0.4, LAST_UNIFORM])
def test_tail_cut_never_leaves_out_all_codes(uniform: float) -> None:
    """Where every code is less likely than the cut, the likeliest is taken."""
    logits = random_logits("softmax", 256, 0.1)
    assert int(draw_all("softmax", logits, np.array([uniform]), tail_cut=0.1)[0]) == int(logits.argmax())


def test_tail_cut_of_the_tree_leaves_out_branches() -> None:
    logits = random_logits("tree", 64, 2.0)
    right = 1 / (1 + np.exp(-logits[0].double().numpy()))
    right = np.where(right < 0.1, 0.0, np.where(right > 0.9, 1.0, right))
    with np.errstate(divide="ignore"):
        expected = tree_probabilities(np.log(right) - np.log1p(-right))
    assert np.count_nonzero(expected) < 60
    uniforms = np.random.default_rng(0).random(4_000, np.float32).astype(np.float64)
    codes = draw_all("tree", logits, uniforms, tail_cut=0.1)
    assert np.mean(codes == [inverse_cdf(expected, u) for u in uniforms]) > 0.999
    assert (expected[codes] > 0).all()


@pytest.mark.parametrize("output", OUTPUTS)
def test_frequencies(output: str) -> None:
    """Pearson's chi-square of 20,000 draws over 64 codes; its 99.99th percentile at 63 degrees is 113."""
    logits = random_logits(output, 64, 0.7)
    expected = probabilities(output, logits[0]) * 20_000
    assert expected.min() > 5
    codes = draw_all(output, logits, np.random.default_rng(11).random(20_000, np.float32).astype(np.float64))
    counts = np.bincount(codes, minlength=64)
    assert np.sum((counts - expected) ** 2 / expected) < 113


def test_rows_are_drawn_each_for_itself() -> None:
    for output in OUTPUTS:
        rows = distribution.probabilities(output, random_logits(output, 64, 2.0, n_rows=40))
        uniforms = np.random.default_rng(5).random(40, np.float32)
        together = drawn(rows, torch.from_numpy(uniforms))
        alone = [drawn(rows[i : i + 1], torch.tensor(uniforms[i : i + 1])) for i in range(40)]
        assert together.tolist() == [int(code) for code in alone]
