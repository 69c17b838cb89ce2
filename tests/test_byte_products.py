"""The byte products: exact on every instruction set, and each with its own instruction."""

import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numba
import numpy as np
import pytest
from emitted import ARM, HOST, Emit, EmittedFunction, host_features
from folded import HOP, random_block, random_network, voiceless_config
from llvmlite import ir
from numpy.typing import NDArray

from gru_audio.lanes import I8, I32, processor_features
from gru_audio.synthesis.byte_products import (
    BYTE_PRODUCTS,
    activation_offset,
    byte_product_for,
)
from gru_audio.synthesis.compiled import CompiledEngine, Int8Loop
from gru_audio.synthesis.folding import FoldedNetwork
from gru_audio.synthesis.frontend import FrameBlock
from gru_audio.synthesis.int8_stages import GATES, gru_addresses, multiply_gru, numbered
from gru_audio.synthesis.packing import aligned, pack_gru
from gru_audio.synthesis.vectors import Vectors

ON_X86 = HOST.startswith("x86_64")
AVX512 = "+avx2,+fma,+avx512f,+avx512bw,+avx512vl,+avx512vnni"
AVX2 = "+avx2,+fma"

# For each byte product LLVM's features to compile it with. This machine need not have AVX VNNI itself: with
# AVX-512's, the same instruction is encoded in another way.
COMPILED_FOR = {
    "avx512-vnni": [AVX512],
    "avx-vnni": ["+avx2,+fma,+avxvnni", AVX512],
    "avx2": [AVX2],
    "neon-dotprod": ["+neon,+dotprod"],
    "portable": ["", AVX2] if ON_X86 else [""],
}
VARIANTS = [(path, features) for path, several in COMPILED_FOR.items() for features in several]


def emit_product(path: str) -> Emit:
    def emit(builder: ir.IRBuilder, arguments: Sequence[ir.Value]) -> None:
        total, four, block, out = arguments
        vectors = Vectors(builder, "")
        product = BYTE_PRODUCTS[path](
            builder, vectors.load_integers(total), vectors.load(four, I32, 1), vectors.load(block, I8, 64)
        )
        vectors.store(product, out)

    return emit


# The choice


@pytest.mark.parametrize(
    ("features", "path"),
    [
        (AVX512, "avx512-vnni"),
        ("+avxvnni," + AVX512, "avx512-vnni"),
        ("+avx2,+avxvnni,-avx512vnni", "avx-vnni"),
        ("+avx2,+fma,+avx512f,+avx512bw,+avx512vl,-avx512vnni", "avx2"),
        ("+avx2,-avxvnni", "avx2"),
        ("-avx2,+avx,+sse4.2", "portable"),
        ("+neon,+dotprod,+fp-armv8", "neon-dotprod"),
        ("+neon,+fp-armv8", "portable"),
        ("", "portable"),
    ],
)
def test_the_fastest_that_the_processor_has_is_chosen(features: str, path: str) -> None:
    assert byte_product_for(features) == path
    assert activation_offset(path) == (128 if "vnni" in path else 0)


def test_numbas_processor_is_asked() -> None:
    if "NUMBA_CPU_FEATURES" not in os.environ:
        assert set(processor_features().split(",")) == set(host_features().split(","))
    assert byte_product_for(processor_features()) in BYTE_PRODUCTS


# The sums


def cases() -> dict[str, tuple[NDArray[np.int64], ...]]:
    """Totals (n, 16), four activations (n, 4) and weights (n, 16, 4), activations with no offset."""
    random, n = np.random.default_rng(0), 200
    totals = random.integers(-(1 << 30), 1 << 30, (n, 16))
    signs = np.array([[a >> k & 1 for k in range(4)] for a in range(16)]) * 254 - 127  # (16, 4) of ±127
    return {
        "random": (totals, random.integers(-127, 128, (n, 4)), random.integers(-127, 128, (n, 16, 4))),
        "extremes": (totals[:16], signs, np.broadcast_to(signs, (16, 16, 4))),
        "zeros": (totals[:1], np.zeros((1, 4), np.int64), np.full((1, 16, 4), -127)),
        "lowest": (totals[:1], np.full((1, 4), -128), np.full((1, 16, 4), 127)),
    }


@pytest.mark.parametrize("kind", list(cases()))
@pytest.mark.parametrize(("path", "features"), VARIANTS)
def test_sums_are_exact(path: str, features: str, kind: str) -> None:
    here = set(host_features().split(","))
    if not set(filter(None, features.split(","))) <= here:
        pytest.skip(f"this processor lacks some of {features}")
    product, offset = EmittedFunction(emit_product(path), 4, features), activation_offset(path)
    totals, activations, weights = cases()[kind]
    expected = totals + np.einsum("nrc,nc->nr", weights, activations + offset)
    for total, four, block, sums in zip(totals, activations, weights, expected, strict=True):
        total_, four_ = total.astype(np.int32), (four + offset).astype(np.uint8)
        block_, out = aligned(block.astype(np.int8)), np.empty(16, np.int32)
        product(*(array.ctypes.data for array in (total_, four_, block_, out)))
        np.testing.assert_array_equal(out, sums)


# The instructions

INSTRUCTIONS = ("vpdpbusd", "vpmaddubsw", "sdot")


@pytest.mark.parametrize(
    ("path", "features", "triple", "instruction"),
    [
        ("avx512-vnni", AVX512, "x86_64-unknown-linux-gnu", "vpdpbusd"),
        ("avx-vnni", "+avx2,+avxvnni", "x86_64-unknown-linux-gnu", "{vex}\tvpdpbusd"),
        ("avx2", AVX2, "x86_64-unknown-linux-gnu", "vpmaddubsw"),
        ("neon-dotprod", "+neon,+dotprod", ARM, "sdot"),
        ("portable", AVX512, "x86_64-unknown-linux-gnu", None),
        ("portable", "", "x86_64-unknown-linux-gnu", None),
        ("portable", "+neon,+dotprod", ARM, None),
    ],
)
def test_each_has_its_instruction(path: str, features: str, triple: str, instruction: str | None) -> None:
    assembly = EmittedFunction(emit_product(path), 4, features, triple).assembly
    if instruction is None:
        assert not any(name in assembly for name in INSTRUCTIONS)
    else:
        assert instruction in assembly
        assert {name for name in INSTRUCTIONS if name in assembly} == {instruction.split()[-1]}
    if path == "avx512-vnni":
        assert "zmm" in assembly


@pytest.mark.parametrize(
    ("features", "triple", "instruction"),
    [
        (AVX512, "x86_64-unknown-linux-gnu", "vpdpbusd"),
        ("+avx2,+avxvnni", "x86_64-unknown-linux-gnu", "vpdpbusd"),
        (AVX2, "x86_64-unknown-linux-gnu", "vpmaddubsw"),
        ("+neon,+dotprod", ARM, "sdot"),
    ],
)
def test_all_that_the_loop_emits_compiles_elsewhere(features: str, triple: str, instruction: str) -> None:
    def emit(builder: ir.IRBuilder, arguments: Sequence[ir.Value]) -> None:
        blocks, activations, columns, out = arguments
        vectors = Vectors(builder, features)
        total = vectors.block_products(vectors.integer(0), blocks, activations, 3, columns)
        gate = vectors.sigmoid(vectors.tanh(vectors.to_float(total)))
        vectors.store(vectors.to_bytes(gate, vectors.number(127.0), vectors.offset), out, align=1)

    assert instruction in EmittedFunction(emit, 4, features, triple).assembly


# The whole loop on other processors


class Case(NamedTuple):
    network: FoldedNetwork
    block: FrameBlock
    uniforms: NDArray[np.float32]
    activations: NDArray[np.int64]


class Measured(NamedTuple):
    """What a process found: the byte product, W_hr and W_hz times the activations, the last codes, the audio."""

    path: str
    sums: NDArray[np.int32]
    codes: NDArray[np.int64]
    audio: NDArray[np.float32]


@numba.njit
def _multiply(layer, counts, activations, products):  # type: ignore[no-untyped-def]
    multiply_gru(layer, counts, 0, layer.n_groups, activations.ctypes.data, products.ctypes.data)


def measure(case: Case) -> Measured:
    path = byte_product_for(processor_features())
    offset = activation_offset(path)
    layer, scale = pack_gru(case.network, offset)
    products = aligned(np.zeros((len(layer.product_start), GATES, 16), np.int32))
    bytes_of_state = aligned((case.activations + offset).astype(np.uint8))
    _multiply(gru_addresses(layer), numbered(layer.counts), bytes_of_state, products)
    engine = CompiledEngine(case.network.config, Int8Loop(case.network))
    state = engine.start(1)
    audio = engine.generate(state, [case.block], case.uniforms)
    return Measured(path, (products + scale.shift)[:, :2], state[0].codes, audio[0])


def measured_with(features: str, folder: Path, case: Case) -> Measured:
    """What a process finds whose numba is told of a lesser processor."""
    (folder / "case").write_bytes(pickle.dumps(case))
    script = (
        "import pathlib, pickle, test_byte_products as t\n"
        "case = pickle.loads(pathlib.Path('case').read_bytes())\n"
        "pathlib.Path('measured').write_bytes(pickle.dumps(tuple(t.measure(case))))"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
        "NUMBA_CPU_NAME": "generic",
        "NUMBA_CPU_FEATURES": features,
        "NUMBA_CACHE_DIR": str(folder / "cache"),
    }
    subprocess.run([sys.executable, "-c", script], cwd=folder, env=environment, check=True)
    return Measured(*pickle.loads((folder / "measured").read_bytes()))


@pytest.mark.slow
@pytest.mark.skipif(not ON_X86, reason="the features are those of x86")
def test_lesser_processors_draw_the_same_until_rounding(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The integers are the same everywhere. The gates are not, by a last bit or by rsqrt14's 14 bits: then, now and
    then, a byte of the state is rounded to its neighbour."""
    config = voiceless_config(1, 8, 8, 16, 10)
    case = Case(
        random_network(config),
        random_block(config, 10),
        np.random.default_rng(2).random((1, 10 * HOP), np.float32),
        np.random.default_rng(3).integers(-127, 128, 16),
    )
    here = measure(case)
    found = {
        path: measured_with(features, tmp_path_factory.mktemp(path), case)
        for path, features in (("avx2", AVX2), ("portable", "+sse2,-avx,-avx2,-fma"))
    }
    print({path: np.flatnonzero(np.abs(m.audio - here.audio) > 1e-4)[:1] for path, m in found.items()})
    for path, measured in found.items():
        assert measured.path == path
        np.testing.assert_array_equal(measured.sums, here.sums)
        differing = np.flatnonzero(np.abs(measured.audio - here.audio) > 1e-4)
        agreeing = differing[0] if differing.size else here.audio.size
        assert agreeing > 20, path
