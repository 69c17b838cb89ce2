"""Compiles the GPU's kernels for an H100, which needs none: python -m support.compiled_kernels.

It prints a JSON object: of each kernel how many fused products its PTX has, how many products of the tensor cores, from
shared memory and from registers, how many copies ahead, and how many bytes of shared memory.
"""

import json
from typing import Any

CAPABILITY = 90
GRU_NUMBERS = ("gates", "weight", "hidden", "inner", "above", "grad_gates", "grad_inner")


def compiled(kernel: Any, types: dict[str, str], constants: dict[str, Any], **options: Any) -> dict[str, int]:
    """One kernel; `types` of arguments in Triton's words, the others are whole numbers."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = kernel.arg_names
    signature = {name: "constexpr" if name in constants else types.get(name, "i32") for name in names}
    places = {(names.index(name),): value for name, value in constants.items()}
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if signature[name][0] == "*"}
    source = ASTSource(kernel, signature, places, aligned)
    made = triton.compile(source, target=GPUTarget("cuda", CAPABILITY, 32), options=options)
    ptx = made.asm["ptx"]
    words = {
        "fused": "fma.rn.f",
        "tensor": "wgmma.mma_async",
        "small tensor": "mma.sync",
        "ahead": "cp.async.cg",
    }
    return {name: ptx.count(word) for name, word in words.items()} | {"shared": made.metadata.shared}


def main() -> None:
    from gru_audio.network.gpu.choice import WAYS
    from gru_audio.network.gpu.kernels.embedding import table_gradient
    from gru_audio.network.gpu.kernels.gru import gru_backward, gru_forward
    from gru_audio.signal.gpu.kernels.closed_loop import closed_loop
    from gru_audio.signal.gpu.kernels.prediction import levinson_durbin, ordered_product
    from gru_audio.synthesis.torch_engine.kernels.sample_loop import sample_loop

    exact: dict[str, Any] = {"num_warps": 1, "enable_fp_fusion": False}
    floats = ("signal", "coefficients", "excitation_scale", "signal_scale", "edges", "expansion", "rebuilt")
    codes = ("targets", "excitations", "previous_signals", "predictions")
    loop = dict.fromkeys(floats, "*fp32") | dict.fromkeys(codes, "*i16") | {"noise": "*i8"}
    doubles = ("x", "rows", "out", "correlation", "window_energy", "solved", "previous")
    recursion = dict.fromkeys(doubles, "*fp64")
    gru = dict.fromkeys(GRU_NUMBERS, "*bf16")
    gru |= dict.fromkeys(("inner_bias", "state", "carried"), "*fp32") | {"counters": "*i32"}
    found = {
        "closed_loop": compiled(closed_loop, loop, {"ORDER": 16, "BITS": 8, "CROPS": 32}, **exact),
        "levinson_durbin": compiled(levinson_durbin, recursion, {"ORDER": 16, "FRAMES": 32}, **exact),
        "ordered_product": compiled(ordered_product, recursion, {"FRAMES": 32, "ROWS": 8}, **exact),
    }
    import triton.language as tl

    tables = {"grad": "*fp32", "codes": "*i64", "parts": "*fp32"}
    block = {"CLASSES": 256, "COLUMNS": 64, "ROWS": 64, "KIND": tl.bfloat16}
    found["table_gradient"] = compiled(table_gradient, tables, block, num_warps=8)
    way = WAYS[0]
    shape = {
        "SIZE": 384,
        "ROWS": way.rows,
        "UNITS": way.units,
        "CHUNK": 128,
        "SUMS": way.n_sums,
        "WAITS": True,
        "IN_DATA": True,
        "FIRSTS": True,
    }
    launch: dict[str, Any] = {"num_warps": way.warps, "launch_cooperative_grid": True}
    found["gru_forward"] = compiled(gru_forward, gru, {**shape, "AHEAD": 3, "SAVES": True}, **launch)
    found["gru_backward"] = compiled(gru_backward, gru, {**shape, "AHEAD": 9}, **launch)
    for name, is_exact in (("sample_loop", True), ("sample_loop of halves", False)):
        types, constants = sample_loop_types(sample_loop.arg_names)
        found[name] = compiled(sample_loop, types, {**constants, "EXACT": is_exact}, num_warps=8)
    print(json.dumps(found))


def sample_loop_types(names: list[str]) -> tuple[dict[str, str], dict[str, Any]]:
    """Of the sample loop for the bundled voice: types, and constants but for EXACT."""
    halves = ("w_high", "w_low", "readout_high", "readout_low", "top_high", "top_low", "half_states")
    floats = ("temperature", "voiced_temperature", "tail_cut", "preemphasis", "tap_1", "tap_2", "tap_3")
    numbers = ("n_streams", "n_lanes", "n_frames", "hop", "uniform_stride")
    constants: dict[str, Any] = {
        "SIZE": 512, "WIDTH": 512, "READOUT": 64, "READOUT_WIDTH": 64, "ORDER": 16, "TAPS": 16, "STRIDE": 4, "BITS": 8,
        "LONGEST_LAG": 320, "SHAPED": True, "ROWS": 16, "UNITS": 64, "CHUNK": 64, "STAGES": 3,
    }  # fmt: skip
    types = {name: "*fp32" for name in names if name not in (*numbers, *constants, "EXACT")}
    types |= dict.fromkeys(halves, "*fp16") | dict.fromkeys(("lags", "codes"), "*i32")
    return types | dict.fromkeys(floats, "fp32"), constants


if __name__ == "__main__":
    main()
