"""`gru-audio info`: what a file or a folder is."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gru_audio.cli.console import print_json, print_rows, progress_bar
from gru_audio.cli.options import Json, Quiet
from gru_audio.voice.bundled import DEFAULT_VOICE

if TYPE_CHECKING:
    from gru_audio.inspection.facts import (
        AudioFileFacts,
        CheckpointFacts,
        ContractFacts,
        DatasetFacts,
        Facts,
        MelFileFacts,
        NetworkFacts,
        RunFacts,
        SplitFacts,
        VoiceFacts,
    )

_SPEAKERS_SHOWN = 12


def info(
    file: Annotated[
        str,
        typer.Argument(
            metavar="[FILE]",
            help="A voice or a bundled voice's name, a checkpoint, a mel, audio, or the folder of a run or a dataset.",
        ),
    ] = DEFAULT_VOICE,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Check all files of a dataset or a run against their digests; a single file is always checked.",
        ),
    ] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Show what a file or a folder is: its sizes, its mel contract, where it comes from.

    **Examples**

        gru-audio info

        gru-audio info runs/mine

        gru-audio info runs/mine/voice.safetensors --json

        gru-audio info datasets/mine --verify
    """
    from dataclasses import asdict

    from gru_audio.inspection.describe import describe
    from gru_audio.voice.bundled import bundled_voices

    path = Path(file)
    with progress_bar("verifying", quiet=quiet or not verify) as progress:
        facts = describe(
            path if path.exists() else bundled_voices().get(file, path), verify=verify, progress=progress
        )
    if json:
        print_json({"kind": facts.kind, **asdict(facts)})
    else:
        print_rows(_rows(facts))


def _rows(facts: "Facts") -> dict[str, str]:
    """The rows of whichever it is; a row that has nothing to say is left out."""
    from gru_audio.inspection.facts import CheckpointFacts, DatasetFacts, MelFileFacts, RunFacts, VoiceFacts

    rows = {"what": f"{facts.kind} {facts.path}"}
    if isinstance(facts, VoiceFacts):
        rows |= _voice_rows(facts)
    elif isinstance(facts, CheckpointFacts):
        rows |= _checkpoint_rows(facts)
    elif isinstance(facts, RunFacts):
        rows |= _run_rows(facts)
    elif isinstance(facts, DatasetFacts):
        rows |= _dataset_rows(facts)
    elif isinstance(facts, MelFileFacts):
        rows |= _mel_rows(facts)
    else:
        rows |= _audio_rows(facts)
    return {name: value for name, value in rows.items() if value}


def _voice_rows(facts: "VoiceFacts") -> dict[str, str]:
    from gru_audio.inspection.terminal_plot import duration_text

    return {
        "file": f"{_bytes(facts.file_bytes)}, version {facts.version}",
        "digest": _digest(facts.has_digest),
        **_network_rows(facts.network),
        "mel": _contract(facts.mel),
        "engine": f"{facts.engine}: {facts.engine_reason}",
        "trained": "" if facts.steps is None else f"{facts.steps:,} steps",
        "validation": _settings(facts.validation),
        "dataset": facts.dataset,
        "audio": "" if facts.training_hours is None else duration_text(facts.training_hours * 3600),
        "speakers": _first(list(facts.speakers)),
        "licence": facts.licence or "not stated",
        "source": facts.source_note,
        **facts.card,
    }


def _checkpoint_rows(facts: "CheckpointFacts") -> dict[str, str]:
    best = "none yet" if facts.best_bits is None else f"{facts.best_bits:.3f} bits a sample"
    return {
        "file": f"{_bytes(facts.file_bytes)}, version {facts.version}",
        "digest": _digest(facts.has_digest),
        "step": f"{facts.step:,} of {facts.steps:,}",
        "best": best,
        "holds": ", ".join(facts.parts),
        **_network_rows(facts.network),
        "mel": _contract(facts.mel),
    }


def _run_rows(facts: "RunFacts") -> dict[str, str]:
    def validation(bits: float | None, step: int | None) -> str:
        return "" if bits is None or step is None else f"{bits:.3f} bits a sample at step {step:,}"

    rows = {
        "step": f"{facts.step:,} of {facts.steps:,}",
        "last": validation(facts.last_bits, facts.last_bits_step),
        "best": validation(facts.best_bits, facts.best_bits_step),
        "checkpoints": _first([f"step {step:,}" for step in reversed(facts.checkpoints)]) or "none",
        "compared": "the checkpoints match their digests" if facts.verified and facts.checkpoints else "",
    }
    if facts.voice is None:
        return {**rows, "mel": _contract(facts.mel), "voice": "none yet; the first validation writes it"}
    return {**rows, **_voice_rows(facts.voice), "file": "", "voice": _bytes(facts.voice.file_bytes)}


def _dataset_rows(facts: "DatasetFacts") -> dict[str, str]:
    speakers = {name: f"{name} {amount.hours * 60:.1f} min" for name, amount in facts.speakers.items()}
    return {
        "folder": f"{_bytes(facts.disk_bytes)}, version {facts.version}",
        "digest": _shards_digest(facts),
        "audio": _amount(facts.total),
        **{f"  {split}": _amount(amount) for split, amount in facts.splits.items()},
        "speakers": _first(list(speakers.values()), _SPEAKERS_SHOWN),
        "mel": _contract(facts.mel),
        "prep": _settings(facts.prep),
        "licence": facts.licence or "not stated",
        "source": facts.source_note,
    }


def _mel_rows(facts: "MelFileFacts") -> dict[str, str]:
    from gru_audio.inspection.terminal_plot import duration_text

    duration = "" if facts.duration_s is None else f", {duration_text(facts.duration_s)}"
    level = None
    if facts.level_min is not None:
        level = f"{facts.level_min:.3f} to {facts.level_max:.3f}, mean {facts.level_mean:.3f}"
    return {
        "file": _bytes(facts.file_bytes),
        "size": f"{facts.n_frames:,} frames of {facts.n_mels} bands{duration}",
        "layout": facts.layout or "",
        "level": level or "no frames",
        "mel": _contract(facts.mel) if facts.mel else "states no contract",
    }


def _audio_rows(facts: "AudioFileFacts") -> dict[str, str]:
    from gru_audio.inspection.terminal_plot import duration_text

    channels = {None: "", 1: ", mono"}.get(facts.n_channels, f", {facts.n_channels} channels")
    level = "silent" if facts.duration_s else "no samples"
    if facts.peak_dbfs is not None:
        level = f"peak {facts.peak_dbfs:.1f} dBFS, RMS {facts.rms_dbfs:.1f} dBFS"
    return {
        "file": f"{_bytes(facts.file_bytes)}, {facts.format or 'read by ffmpeg'}",
        "audio": f"{duration_text(facts.duration_s)}, {facts.sample_rate_hz} Hz{channels}",
        "level": level,
        "clipped": f"{facts.clipped_samples:,} samples" if facts.clipped_samples else "",
    }


def _network_rows(facts: "NetworkFacts") -> dict[str, str]:
    return {
        "network": _settings(facts.settings),
        "parameters": f"{facts.parameters:,}",
        "signal": f"LPC order {facts.lpc_order}, {facts.bits}-bit mu-law",
    }


def _digest(has_digest: bool) -> str:
    return "matches" if has_digest else "none: an older version wrote the file, so that nothing was compared"


def _shards_digest(facts: "DatasetFacts") -> str:
    shards = f"{facts.shards:,} shard{'' if facts.shards == 1 else 's'}"
    if facts.verified:
        return f"the index and {shards} match" if facts.version > 1 else f"{shards} match"
    index = "the index matches; " if facts.version > 1 else ""
    return f"{index}{shards} not compared (--verify compares them; otherwise each clip is compared when it is read)"


def _contract(contract: "ContractFacts") -> str:
    mel = contract.settings
    return (
        f"{contract.preset or 'a contract of its own'}: {mel['sample_rate_hz']} Hz, {mel['n_mels']} bands of "
        f"{mel['f_min_hz']:g} to {mel['f_max_hz']:g} Hz, FFT {mel['n_fft']}, window {mel['window_samples']}, "
        f"hop {mel['hop_samples']}, {mel['spectrum']}, {mel['log']}, padding {mel['padding']}"
    )


def _settings(settings: Mapping[str, object]) -> str:
    def shown(value: object) -> str:
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    return ", ".join(f"{name} {shown(value)}" for name, value in settings.items())


def _amount(amount: "SplitFacts") -> str:
    from gru_audio.inspection.terminal_plot import duration_text

    return f"{amount.clips:,} clips, {duration_text(amount.hours * 3600)}"


def _first(names: list[str], shown: int = 5) -> str:
    """The names, or how many there are and the first of them."""
    return ", ".join(names) if len(names) <= shown else f"{len(names)}: {', '.join(names[:shown])}, ..."


def _bytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
