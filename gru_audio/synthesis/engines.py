"""The engines that run the sample loop, and the choice among them."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from gru_audio.config import Config
from gru_audio.errors import ConfigError
from gru_audio.mel import FloatArray
from gru_audio.synthesis.folding import FoldedNetwork, can_compile
from gru_audio.tensorfile import Array

if TYPE_CHECKING:  # numba comes with it; `info` asks for the choice alone
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

        They are hidden (H,), codes (L,) and rebuilt (P,), both newest last, and audio (1,); the torch engine adds
        cell (H,).
        """

    def import_state(self, arrays: Mapping[str, Array]) -> Any:
        """The state of one stream.

        Raises:
            ConfigError: an array is missing or has another shape than the voice asks for.
        """


def _torch(network: FoldedNetwork, device: str) -> Engine:
    from gru_audio.device import choose_device
    from gru_audio.synthesis.reference import TorchEngine

    return TorchEngine(network, choose_device(device))


def _float32(network: FoldedNetwork, device: str) -> Engine:
    from gru_audio.synthesis.compiled import CompiledEngine, Float32Loop

    _require_cpu("float32", device)
    return CompiledEngine(network.config, Float32Loop(network))


def _int8(network: FoldedNetwork, device: str) -> Engine:
    from gru_audio.synthesis.compiled import CompiledEngine, Int8Loop

    _require_cpu("int8", device)
    return CompiledEngine(network.config, Int8Loop(network))


def _require_cpu(engine: str, device: str) -> None:
    if device not in ("auto", "cpu"):
        raise ConfigError(f"engine '{engine}' runs on the CPU, not on '{device}'; use the engine torch")


ENGINES: dict[str, Callable[[FoldedNetwork, str], Engine]] = {
    "int8": _int8,
    "float32": _float32,
    "torch": _torch,
}
"""Name to maker."""

_PORTABLE_DENSITY = 0.5
"""Up to this share of kept blocks int8 is faster than float32 without an instruction for it."""


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

    int8 is the fastest wherever the processor multiplies bytes. Where it does not, it still gains by each block of
    weights that is left out; float32 reads all of them, and is then ahead of it for dense voices (measured: 31
    against 43 us a sample for voice-16k, dense).
    """
    from gru_audio.lanes import processor_features
    from gru_audio.synthesis.byte_products import byte_product_for

    model = config.model
    if device not in ("auto", "cpu"):
        return "torch", f"the only engine on device {device}"
    if not can_compile(config):
        return (
            "torch",
            f"the others run a gru with a tree, this voice is a {model.cell} with a {model.output}",
        )
    byte_product = byte_product_for(processor_features())
    if byte_product == "portable" and sum(model.recurrent_density) / 3 > _PORTABLE_DENSITY:
        return "float32", "the fastest for a dense voice on a processor without products of bytes"
    return "int8", f"the fastest on this processor, with {byte_product}"


def make_engine(name: str, network: FoldedNetwork, device: str) -> tuple[str, Engine]:
    """The engine of a name and the name it goes by; for `"auto"` see `choose_engine`.

    Raises:
        ConfigError: no such engine, it cannot run the voice, or there is no such device.
    """
    if name == "auto":
        name, _ = choose_engine(network.config, device)
    if name not in ENGINES:
        raise ConfigError(f"engine '{name}' does not exist; choose one of auto, {', '.join(ENGINES)}")
    return name, ENGINES[name](network, device)
