"""The engines that run the sample loop, and the choice among them."""

import importlib.util
import os
from collections.abc import Callable

from gru_audio.config import GATES, Config
from gru_audio.errors import ConfigError
from gru_audio.extras import require
from gru_audio.synthesis.engine import Engine
from gru_audio.synthesis.folding import FoldedNetwork, can_compile
from gru_audio.synthesis.sampling import UNCHANGED, VoiceSampling


def _torch(network: FoldedNetwork, device: str, own: VoiceSampling) -> Engine:
    require("train", "engine 'torch'", "torch")
    from gru_audio.network.device import choose_device
    from gru_audio.synthesis.torch_engine.engine import TorchEngine

    return TorchEngine(network, choose_device(device), own)


def _float32(network: FoldedNetwork, device: str, own: VoiceSampling) -> Engine:
    from gru_audio.synthesis.compiled import CompiledEngine
    from gru_audio.synthesis.float32_engine import Float32Loop

    _require_cpu("float32", device)
    return CompiledEngine(network.config, Float32Loop(network), own)


def _int8(network: FoldedNetwork, device: str, own: VoiceSampling) -> Engine:
    from gru_audio.synthesis.compiled import CompiledEngine
    from gru_audio.synthesis.int8.engine import Int8Loop

    _require_cpu("int8", device)
    return CompiledEngine(network.config, Int8Loop(network), own)


def _require_cpu(engine: str, device: str) -> None:
    if device not in ("auto", "cpu"):
        raise ConfigError(f"engine '{engine}' runs on the CPU, not on '{device}'; use the engine torch")


ENGINES: dict[str, Callable[[FoldedNetwork, str, VoiceSampling], Engine]] = {
    "int8": _int8,
    "float32": _float32,
    "torch": _torch,
}
"""Name to maker."""


# Correction included: int8 on a core of an AVX-512 processor, the torch engine on an H200; see docs/figures.md.
_CPU_SAMPLE_US, _CPU_WEIGHT_US = 0.9, 1.3e-5  # of a sample, and of each weight of W_hh that a step multiplies
# Of a step of all streams that go together; how it is shared out is an estimate.
_GPU_STEP_US, _GPU_WEIGHT_US = 100.0, 5e-5
_GPU_START_S, _GPU_CLIP_S = 7.0, 0.0045  # to load torch and the kernel; for a clip's files
_STREAMS_ON_GPU = 2_048
_CLIP_S = 5.0  # what a clip is taken for, as nobody has looked at it


def choose_engine(config: Config, device: str = "auto", n_clips: int = 1) -> tuple[str, str]:
    """The engine that `"auto"` stands for, and why.

    On a CPU int8 is the fastest on every instruction set, also for dense voices without products of bytes (measured:
    26 against 58 us a sample of float32's for voice-16k-dense). A GPU goes through thousands of clips in the time that
    it takes for one; for few of them a CPU is faster.

    Args:
        config: the voice's.
        device: that was asked for.
        n_clips: to be made together.
    """
    from gru_audio.native import library

    model = config.model
    if device not in ("auto", "cpu"):
        return "torch", f"the only engine on device {device}"
    if not can_compile(config):
        return (
            "torch",
            f"the others run a gru with a tree, this voice is a {model.cell} with a {model.output}",
        )
    fastest = f"the fastest on this processor, with {library.instructions()}"
    by_cpu, by_gpu = seconds_of_clips(config, max(1, n_clips))
    if device == "cpu" or by_gpu > by_cpu or not has_gpu():
        return "int8", fastest
    return "torch", f"{n_clips} clips take about {by_gpu:.0f} s on this GPU, {by_cpu:.0f} s on the processor"


def seconds_of_clips(config: Config, n_clips: int) -> tuple[float, float]:
    """About how long the CPU's cores, and a GPU, would take for so many clips of ordinary length."""
    model = config.model
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    n_weights = GATES[model.cell] * model.gru_size**2
    n_steps = _CLIP_S * config.mel.sample_rate_hz / model.samples_per_step
    kept = sum(model.recurrent_density) / len(model.recurrent_density) * n_weights
    step_us = _CPU_SAMPLE_US * model.samples_per_step + _CPU_WEIGHT_US * kept
    by_cpu = n_clips * n_steps * step_us * 1e-6 / min(n_clips, n_cores)
    together = n_steps * (_GPU_STEP_US + _GPU_WEIGHT_US * n_weights) * 1e-6
    return by_cpu, _GPU_START_S + -(-n_clips // _STREAMS_ON_GPU) * together + n_clips * _GPU_CLIP_S


def has_gpu() -> bool:
    """Whether kernels of ours can run on a GPU here."""
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("triton") is None:
        return False
    import torch

    from gru_audio.network import triton_ready

    return torch.cuda.is_available() and triton_ready.why_not(torch.device("cuda")) is None


def make_engine(
    name: str, network: FoldedNetwork, device: str, own: VoiceSampling = UNCHANGED
) -> tuple[str, Engine]:
    """The engine of a name and the name it goes by; for `"auto"` see `choose_engine`.

    `own` is what it draws with where nothing else is asked for.

    Raises:
        ConfigError: no such engine, it cannot run the voice, or there is no such device.
    """
    if name == "auto":
        name, _ = choose_engine(network.config, device)
    if name not in ENGINES:
        raise ConfigError(f"engine '{name}' does not exist; choose one of auto, {', '.join(ENGINES)}")
    return name, ENGINES[name](network, device, own)
