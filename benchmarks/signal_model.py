"""What the signal model does with no network, over any clips: the figures that docs and design state.

    python benchmarks/signal_model.py samples

For each clip: how much the linear prediction removes of the pre-emphasised signal's energy; how well the
mel's levels fit (the RMS of the normalised excitation e/g and signal s/r should be 1, and e/g seldom
beyond 8); and PESQ (wide band) of the codec alone, with linear prediction and without, for several bits.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pesq import pesq
from rich.console import Console
from rich.table import Table

from gru_audio.config import MelConfig, SignalConfig
from gru_audio.errors import GruAudioError
from gru_audio.signal.audio import resample
from gru_audio.signal.audio_file.reading import AUDIO_SUFFIXES, read_audio
from gru_audio.signal.codec import de_emphasis, pre_emphasis, run_closed_loop
from gru_audio.signal.lpc import frame_filters, linear_prediction
from gru_audio.signal.mel import log_mel

Floats = NDArray[np.float32]

BITS = (6, 8, 10)
MEL = MelConfig()
SIGNAL = SignalConfig()


@dataclass(frozen=True)
class Figures:
    """One clip's.

    Attributes:
        gain_db: prediction gain, the energy of s over that of e.
        excitation_rms: of e/g.
        excitation_peak: 99.99th percentile of |e/g|.
        signal_rms: of s/r.
        pesq_with: PESQ of the codec with linear prediction, for each of `BITS`.
        pesq_without: the same without.
    """

    gain_db: float
    excitation_rms: float
    excitation_peak: float
    signal_rms: float
    pesq_with: tuple[float, ...]
    pesq_without: tuple[float, ...]

    def values(self) -> list[float]:
        """All of them in a table's order."""
        levels = [self.gain_db, self.excitation_rms, self.excitation_peak, self.signal_rms]
        return [*levels, *self.pesq_with, *self.pesq_without]


def measure(audio: Floats) -> Figures:
    """The figures of audio (n,) at the contract's rate."""
    hop = MEL.hop_samples
    mel = log_mel(audio, MEL)
    audio = audio[: len(mel) * hop]
    coefficients, error_rms, signal_rms = linear_prediction(mel, MEL, SIGNAL)
    signal = pre_emphasis(audio, SIGNAL.preemphasis).astype(np.float64)
    padded = np.concatenate([np.zeros(SIGNAL.lpc_order), signal])
    pasts = np.lib.stride_tricks.sliding_window_view(padded, SIGNAL.lpc_order)[:-1, ::-1]  # (T, P)
    excitation = signal - (pasts * np.repeat(coefficients, hop, axis=0)).sum(1)
    normalised = excitation / np.repeat(error_rms, hop)
    return Figures(
        gain_db=float(10 * np.log10((signal**2).sum() / (excitation**2).sum())),
        excitation_rms=_rms(normalised),
        excitation_peak=float(np.quantile(np.abs(normalised), 0.9999)),
        signal_rms=_rms(signal / np.repeat(signal_rms, hop)),
        pesq_with=tuple(_codec_pesq(audio, mel, SignalConfig(bits=bits)) for bits in BITS),
        pesq_without=tuple(_codec_pesq(audio, mel, SignalConfig(bits=bits, lpc_order=0)) for bits in BITS),
    )


def find_clips(sources: list[Path]) -> list[Path]:
    """The audio files given, and those in the folders given."""
    return [
        path
        for source in sources
        for path in (sorted(source.rglob("*")) if source.is_dir() else [source])
        if path.suffix.lower() in AUDIO_SUFFIXES
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sources", nargs="+", type=Path, metavar="FOLDER_OR_FILE")
    clips = find_clips(parser.parse_args().sources)
    if not clips:
        parser.error("no audio file among the sources")
    rows = {}
    for path in clips:
        try:
            audio, rate_hz = read_audio(path)
        except GruAudioError as error:
            sys.exit(str(error))
        rows[f"{path.parent.name}/{path.stem}"] = measure(
            resample(audio, rate_hz, MEL.sample_rate_hz)
        ).values()
    Console(width=None if sys.stdout.isatty() else 140).print(_table(rows))


def _table(rows: dict[str, list[float]]) -> Table:
    table = Table(title="The signal model with no network; PESQ wide band")
    table.add_column("clip", no_wrap=True)
    headings = ["gain dB", "rms e/g", "99.99%\ne/g", "rms s/r"]
    for heading in [
        *headings,
        *(f"{bits} bits\nLPC" for bits in BITS),
        *(f"{bits} bits\nno LPC" for bits in BITS),
    ]:
        table.add_column(heading, justify="right")
    for name, values in rows.items():
        table.add_row(name, *(f"{value:.2f}" for value in values))
    table.add_section()
    table.add_row(f"mean of {len(rows)}", *(f"{value:.3f}" for value in np.mean(list(rows.values()), axis=0)))
    return table


def _codec_pesq(audio: Floats, mel: Floats, config: SignalConfig) -> float:
    signal = pre_emphasis(audio, config.preemphasis)
    rebuilt = run_closed_loop(signal, frame_filters(mel, MEL, config), config).rebuilt
    decoded = np.clip(de_emphasis(rebuilt, config.preemphasis), -1, 1)
    return float(pesq(MEL.sample_rate_hz, audio, decoded, "wb"))


def _rms(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(values**2)))


if __name__ == "__main__":
    main()
