"""Other vocoders that install from PyPI, with random weights, to be timed in the same run and on one core.

One that is not installed is named and left out: `pip install 'gru-audio[bench]'` brings them.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from gru_audio.bench.turns import Speed, Task, frames_a_turn


@dataclass(frozen=True)
class Peer:
    """A vocoder that is not ours.

    Attributes:
        name: with its sizes where it has a choice.
        sample_rate_hz: of its audio.
        generate: makes the audio of a number of frames and returns how many samples it has.
    """

    name: str
    sample_rate_hz: int
    generate: Callable[[int], int]

    def task(self, seconds: float) -> Task:
        """The timing of it; see `frames_a_turn`."""
        n_frames = frames_a_turn(self.generate, self.sample_rate_hz, seconds)
        return Task(self.name, "one stream", lambda: self.generate(n_frames))


@dataclass(frozen=True)
class PeerSpeed:
    """A peer's speed, one stream on one core."""

    peer: str
    sample_rate_hz: int
    one_stream: Speed


def find_peers() -> tuple[list[Peer], list[str]]:
    """The peers that are installed, and the names of the packages that are not."""
    peers, missing = [_gru_cell_loop()], []
    for package, make in (("torchaudio", _torchaudio_wavernn), ("vocos", _vocos)):
        try:
            with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what a package says of its own future is not ours to mend
                torch.manual_seed(0)
                peers.append(make())
        except ImportError:
            missing.append(package)
    return peers, missing


def _torchaudio_wavernn() -> Peer:
    """WaveRNN's own loop at its default sizes, for a hop of 200 samples and 8 bits at 16 kHz."""
    from torchaudio.models import WaveRNN

    model = WaveRNN(
        upsample_scales=[5, 5, 8], n_classes=256, hop_length=200, n_rnn=512, n_fc=512, n_freq=80
    ).eval()

    @torch.inference_mode()
    def generate(n_frames: int) -> int:
        audio, _ = model.infer(torch.zeros(1, 80, n_frames))
        return int(audio.numel())

    return Peer("torchaudio WaveRNN, 512", 16_000, generate)


def _vocos() -> Peer:
    """The published charactr/vocos-mel-24khz, which makes a whole clip at once through an inverse STFT."""
    from vocos.heads import ISTFTHead
    from vocos.models import VocosBackbone

    backbone = VocosBackbone(input_channels=100, dim=512, intermediate_dim=1536, num_layers=8)
    head = ISTFTHead(dim=512, n_fft=1024, hop_length=256, padding="center")
    model = nn.Sequential(backbone, head).eval()

    @torch.inference_mode()
    def generate(n_frames: int) -> int:
        # A centred inverse STFT of n + 1 frames makes n hops.
        return int(model(torch.zeros(1, 100, n_frames + 1)).numel())

    return Peer("vocos mel-24khz", 24_000, generate)


class _GRUCellVocoder(nn.Module):
    """A loop over nn.GRUCell with UniversalVocoding's sizes, in code of our own.

    Sizes of bshall/UniversalVocoding 0.2: 80 mel bands, two bidirectional layers of 128 for the conditioning, an
    embedding of 256 for each of the 1024 codes of 10 bits, a GRU of 896, a hidden layer of 1024; hop 200 at 16 kHz.
    """

    hop_samples, n_classes = 200, 1024

    def __init__(self) -> None:
        super().__init__()
        self.conditioner = nn.GRU(80, 128, num_layers=2, batch_first=True, bidirectional=True)
        self.embedding = nn.Embedding(self.n_classes, 256)
        self.cell = nn.GRUCell(256 + 2 * 128, 896)
        self.hidden = nn.Linear(896, 1024)
        self.output = nn.Linear(1024, self.n_classes)

    @torch.inference_mode()
    def generate(self, mel: torch.Tensor) -> torch.Tensor:
        """(1, F, 80) to codes (F * 200,)."""
        conditioning, _ = self.conditioner(mel)  # (1, F, 256)
        codes = [torch.full((1,), self.n_classes // 2)]
        state = torch.zeros(1, self.cell.hidden_size)
        for frame in conditioning[0]:
            for _ in range(self.hop_samples):
                state = self.cell(torch.cat([self.embedding(codes[-1]), frame[None]], -1), state)
                logits = self.output(torch.relu(self.hidden(state)))
                codes.append(torch.multinomial(torch.softmax(logits, -1), 1)[:, 0])
        return torch.cat(codes[1:])


def _gru_cell_loop() -> Peer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = _GRUCellVocoder().eval()
    return Peer(
        "nn.GRUCell loop, 896", 16_000, lambda n_frames: model.generate(torch.zeros(1, n_frames, 80)).numel()
    )
