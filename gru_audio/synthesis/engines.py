"""The engines that run the sample loop, and the choice among them."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from gru_audio.config import Config
from gru_audio.errors import ConfigError
from gru_audio.extras import require
from gru_audio.synthesis.engine import Engine
from gru_audio.synthesis.folding import FoldedNetwork, can_compile
from gru_audio.synthesis.sampling import PLAIN, VoicedDraws

if TYPE_CHECKING:
    pass


def _torch(network: FoldedNetwork, device: str, voiced: VoicedDraws) -> Engine:
    require("train", "engine 'torch'", "torch")
    from gru_audio.network.device import choose_device
    from gru_audio.synthesis.torch_engine.engine import TorchEngine

    return TorchEngine(network, choose_device(device), voiced)


def _float32(network: FoldedNetwork, device: str, voiced: VoicedDraws) -> Engine:
    from gru_audio.synthesis.compiled import CompiledEngine
    from gru_audio.synthesis.float32_engine import Float32Loop

    _require_cpu("float32", device)
    return CompiledEngine(network.config, Float32Loop(network), voiced)


def _int8(network: FoldedNetwork, device: str, voiced: VoicedDraws) -> Engine:
    from gru_audio.synthesis.compiled import CompiledEngine
    from gru_audio.synthesis.int8.engine import Int8Loop

    _require_cpu("int8", device)
    return CompiledEngine(network.config, Int8Loop(network), voiced)


def _require_cpu(engine: str, device: str) -> None:
    if device not in ("auto", "cpu"):
        raise ConfigError(f"engine '{engine}' runs on the CPU, not on '{device}'; use the engine torch")


ENGINES: dict[str, Callable[[FoldedNetwork, str, VoicedDraws], Engine]] = {
    "int8": _int8,
    "float32": _float32,
    "torch": _torch,
}
"""Name to maker."""


def choose_engine(config: Config, device: str = "auto") -> tuple[str, str]:
    """The engine that `"auto"` stands for, and why.

    Where the others can run, int8 is the fastest on every instruction set, also for dense voices without products of
    bytes (measured: 26 against 58 us a sample of float32's for voice-16k-dense).
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
    return "int8", f"the fastest on this processor, with {library.instructions()}"


def make_engine(
    name: str, network: FoldedNetwork, device: str, voiced: VoicedDraws = PLAIN
) -> tuple[str, Engine]:
    """The engine of a name and the name it goes by; for `"auto"` see `choose_engine`.

    `voiced` says how it draws in voiced frames.

    Raises:
        ConfigError: no such engine, it cannot run the voice, or there is no such device.
    """
    if name == "auto":
        name, _ = choose_engine(network.config, device)
    if name not in ENGINES:
        raise ConfigError(f"engine '{name}' does not exist; choose one of auto, {', '.join(ENGINES)}")
    return name, ENGINES[name](network, device, voiced)
