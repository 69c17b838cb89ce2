"""What an engine does: it runs the sample loop of one folded network."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from gru_audio.arrays import FloatArray
from gru_audio.errors import ConfigError
from gru_audio.synthesis.sampling import PLAIN_SAMPLING, Sampling, VoiceSampling
from gru_audio.voice.tensor_file import Array

if TYPE_CHECKING:
    from gru_audio.synthesis.frontend import FrameBlock


class Engine(Protocol):
    """Runs the sample loop of one folded network.

    Attributes:
        own: what it draws with where nothing else is asked for.
        streams_at_once: how many streams it likes to go on with in one call. They go in step, so that shorter ones
            are padded.
        groups_at_once: how many groups of so many may be under way in threads of their own.
    """

    @property
    def own(self) -> VoiceSampling: ...

    @property
    def streams_at_once(self) -> int: ...

    @property
    def groups_at_once(self) -> int: ...

    def start(self, n_streams: int) -> Any:
        """The state of streams that have been silent for ever."""

    def generate(
        self,
        state: Any,
        blocks: "Sequence[FrameBlock]",
        uniforms: FloatArray,
        sampling: Sampling = PLAIN_SAMPLING,
    ) -> FloatArray:
        """Go on by one block of each stream; see `torch_engine.engine.TorchEngine.generate`."""

    def in_step(self, ready: Any, n_streams: int, sampling: Sampling) -> Any:
        """Streams of a `stream.ReadyVoice` that go through all stages on the engine's device.

        Returns:
            What has the methods of `in_step.StreamsInStep`; None where the CPU does all but the sample loop.
        """

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
