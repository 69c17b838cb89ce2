"""The engines that run the sample loop, and the choice among them."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from gru_audio.config import Config
from gru_audio.errors import ConfigError
from gru_audio.extras import require
from gru_audio.signal.mel import FloatArray
from gru_audio.synthesis.folding import FoldedNetwork, can_compile
from gru_audio.synthesis.sampling import PLAIN, VoicedDraws
from gru_audio.voice.tensor_file import Array

if TYPE_CHECKING:
    from gru_audio.synthesis.frontend import FrameBlock


class Engine(Protocol):
    """Runs the sample loop of one folded network.

    Attributes:
        in_step: the streams of a batch go in step, so that shorter ones are padded, and many cost little
            more than one.
    """

    in_step: bool

    def start(self, n_streams: int) -> Any:
        """The state of streams that have been silent for ever."""

    def generate(
        self,
        state: Any,
        blocks: "Sequence[FrameBlock]",
        uniforms: FloatArray,
        temperature: float,
        tail_cut: float,
    ) -> FloatArray:
        """Go on by one block of each stream; see `reference.TorchEngine.generate`."""

    def export_state(self, state: Any) -> dict[str, Array]:
        """The state of one stream as arrays that any engine of the same voice can import: a copy.

        They are hidden (H,), codes (L,), rebuilt (P,) and noise (3,), newest last, and audio (1,); the torch engine
        adds cell (H,).
        """

    def import_state(self, arrays: Mapping[str, Array]) -> Any:
        """The state of one stream.

        Raises:
            ConfigError: an array is missing or has another shape than the voice asks for.
        """


def _torch(network: FoldedNetwork, device: str, voiced: VoicedDraws) -> Engine:
    require("train", "engine 'torch'")
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


def require_saved(arrays: Mapping[str, Array], wanted: Mapping[str, Array]) -> None:
    """Check that a saved state has the arrays that an engine's own has.

    Raises:
        ConfigError: one is missing or has another shape or type.
    """
    for name, own in wanted.items():
        given = arrays.get(name)
        if given is None or (given.dtype, given.shape) != (own.dtype, own.shape):
            found = "missing" if given is None else f"{given.dtype} {given.shape}"
            raise ConfigError(
                f"saved stream: '{name}' is {found}, not {own.dtype} {own.shape}; it is of another voice"
            )


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
