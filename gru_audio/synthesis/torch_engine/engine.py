"""The torch engine: the sample loop written plainly, for any device and a batch of streams.

It is the reference that the compiled engines are compared with, draw by draw, the engine for cells other
than the GRU, and the one for a GPU. It computes in float32 everywhere, or as exactly: see kernels/sample_loop.py.
"""

from collections.abc import Mapping, Sequence
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from gru_audio.arrays import FloatArray
from gru_audio.network.cpu.memory import keep_freed_memory
from gru_audio.synthesis.engine import require_saved
from gru_audio.synthesis.folding import FoldedNetwork
from gru_audio.synthesis.frontend import FrameBlock
from gru_audio.synthesis.sampling import N_TAPS, PLAIN_SAMPLING, UNCHANGED, Sampling, VoiceSampling
from gru_audio.synthesis.stream import ReadyVoice
from gru_audio.synthesis.torch_engine.frontend import DeviceConditioner, tried_conditioner
from gru_audio.synthesis.torch_engine.fused import LoopChoice, choose
from gru_audio.synthesis.torch_engine.in_step import DeviceStreams
from gru_audio.synthesis.torch_engine.sample_loop import DeviceNetwork, FrameInputs, SampleLoop, TorchState
from gru_audio.voice.tensor_file import Array

_STREAMS_ON_CPU = 8  # cost little more than one
_STREAMS_ON_GPU = 256  # without a kernel of ours
_LOOPS_KEPT = 4  # each with its own tensors, and on a GPU its own graph


class TorchEngine:
    """Generates with torch, all streams of a batch in step.

    On a CUDA GPU many frames are one launch of a kernel of ours, where that runs and fits the voice. Else a frame is
    one: it is captured at the first use of each number of streams and setting of the sampling, and replayed then.

    Attributes:
        network: on its device.
        own: see `Engine`.
    """

    def __init__(self, network: FoldedNetwork, device: torch.device, own: VoiceSampling = UNCHANGED) -> None:
        """Move a folded network to a device; `own` is what it draws with where nothing else is asked for."""
        self._folded, self.network, self.own = network, DeviceNetwork(network, device), own
        self._idle: dict[tuple[int, float, float], SampleLoop] = {}
        self._choice: LoopChoice | None = None
        self._conditioner: DeviceConditioner | str | None = None  # or why there is none
        self._choosing = Lock()
        if device.type == "cuda":
            keep_freed_memory()  # of hundreds of clips' audio, piece after piece
            _ = self.choice  # while the voice is loaded, as everything else is made ready then

    @property
    def streams_at_once(self) -> int:
        """See `Engine`; on a GPU as many as its processors have places for: more take turns."""
        device = self.network.device
        if device.type == "cpu":
            return _STREAMS_ON_CPU
        fused = self.choice.loop
        if fused is None:
            return _STREAMS_ON_GPU
        return fused.way.rows * torch.cuda.get_device_properties(device).multi_processor_count

    @property
    def groups_at_once(self) -> int:
        """See `Engine`; a second one fills what the first leaves of a GPU. A graph is captured by one thread alone."""
        return 1 if self.network.device.type == "cpu" or self.choice.loop is None else 2

    @property
    def choice(self) -> LoopChoice:
        """The kernel of ours that runs on the device, as it was tried."""
        with self._choosing, torch.inference_mode():
            if self._choice is None:
                self._choice = choose(self.network, self.own.voiced, self.start, self.in_torch_alone)
        return self._choice

    def in_step(self, ready: ReadyVoice, n_streams: int, sampling: Sampling) -> DeviceStreams | None:
        """Streams that go through all on the device; None where there is no kernel for it."""
        if self.network.device.type == "cpu" or self.choice.loop is None:
            return None
        with self._choosing:
            if self._conditioner is None:
                self._conditioner = tried_conditioner(
                    ready.voice, self._folded, ready.weights, self.network.device
                )
        if isinstance(self._conditioner, str):
            return None
        return DeviceStreams(self, self._conditioner, ready.n_corrections, n_streams, sampling)

    def start(self, n_streams: int) -> TorchState:
        """The state of streams that have been silent for ever."""
        config, device = self.network.config, self.network.device
        middle = config.signal.n_classes // 2

        def zeros(n: int) -> Tensor:
            # Whatever torch's default is.
            return torch.zeros(n_streams, n, dtype=torch.float32, device=device)

        return TorchState(
            hidden=zeros(config.model.gru_size),
            cell=zeros(config.model.gru_size),
            codes=torch.full((n_streams, config.lag_max_samples), middle, device=device),
            rebuilt=zeros(config.signal.lpc_order),
            audio=zeros(1),
            noise=zeros(N_TAPS),
        )

    @torch.inference_mode()
    def generate(
        self,
        state: TorchState,
        blocks: Sequence[FrameBlock],
        uniforms: FloatArray,
        sampling: Sampling = PLAIN_SAMPLING,
    ) -> FloatArray:
        """Go on by one block of each stream, all with k frames.

        Args:
            state: advanced in place.
            blocks: B blocks.
            uniforms: (B, k * hop) in [0, 1), one for each sample.
            sampling: temperature and tail cut; the seed has made the uniforms.

        Returns:
            (B, k * hop) audio, full scale 1; it may go beyond.
        """
        return self.run(state, self.inputs_of(blocks, uniforms), sampling).cpu().numpy()

    def run(self, state: TorchState, frames: FrameInputs, sampling: Sampling) -> Tensor:
        """Go on by frames that are on the device; see `generate`.

        Returns:
            (B, k * hop) audio, there.
        """
        temperature, tail_cut = sampling.temperature_of(self.own), sampling.tail_cut
        fused = self.choice.loop if self.network.device.type != "cpu" else None
        if fused is not None and frames.uniforms.shape[1]:
            return fused.run(state, frames, temperature, tail_cut)
        settings = (len(frames.uniforms), temperature, tail_cut)
        # Taken out while it runs, so that two threads never share a loop's tensors.
        loop = self._idle.pop(settings, None) or SampleLoop(self.network, *settings, self.own.voiced)
        loop.state.take(state)
        audio = torch.empty_like(frames.uniforms)  # (B, k, hop)
        for frame in range(audio.shape[1]):
            loop.inputs.take(frames, frame)
            loop.run()
            audio[:, frame] = loop.audio
        state.take(loop.state)
        if len(self._idle) >= _LOOPS_KEPT:
            self._idle.clear()
        self._idle[settings] = loop
        return audio.flatten(1)

    def in_torch_alone(self, frames: FrameInputs) -> Tensor:
        """What torch's own operations make of frames, uncaptured; see `fused.Reference`."""
        loop = SampleLoop(self.network, len(frames.uniforms), 1.0, 0.0, self.own.voiced, captured=False)
        loop.state.take(self.start(len(frames.uniforms)))
        parts = []
        for frame in range(frames.uniforms.shape[1]):
            loop.inputs.take(frames, frame)
            loop.run()
            parts.append(loop.audio.clone())
        return torch.cat(parts, 1)

    def export_state(self, state: TorchState) -> dict[str, Array]:
        """The state of one stream as arrays, a copy: what `TorchState` has, without B; codes int64, else float32."""
        return {name: tensor[0].cpu().numpy().copy() for name, tensor in vars(state).items()}

    def import_state(self, arrays: Mapping[str, Array]) -> TorchState:
        """The state of one stream that `export_state` gave, of this engine or of another.

        Args:
            arrays: see `export_state`; `cell` may be missing but for an LSTM, as other engines have none.

        Raises:
            ConfigError: an array is missing or has another shape or type.
        """
        state = self.start(1)
        wanted = self.export_state(state)
        if "cell" not in arrays and self.network.config.model.cell != "lstm":
            del wanted["cell"]
        require_saved(arrays, wanted)
        for name in wanted:
            getattr(state, name)[0] = torch.from_numpy(arrays[name].copy())
        return state

    def inputs_of(self, blocks: Sequence[FrameBlock], uniforms: FloatArray) -> FrameInputs:
        """The blocks of B streams and their uniforms (B, k * hop), stacked on the device."""
        hop = self.network.config.mel.hop_samples

        def place(arrays: Sequence[Array]) -> Tensor:
            return torch.from_numpy(np.stack(arrays)).to(self.network.device)

        return FrameInputs(
            gate_inputs=place([block.gate_inputs for block in blocks]),
            readout_inputs=place([block.readout_inputs for block in blocks]),
            coefficients=place([block.filters.coefficients[:, ::-1] for block in blocks]),
            excitation_scale=place([block.filters.excitation_scale for block in blocks]),
            signal_scale=place([block.filters.signal_scale for block in blocks]),
            lags=place([block.lags for block in blocks]),
            uniforms=place([row.reshape(-1, hop) for row in uniforms]),
        )
