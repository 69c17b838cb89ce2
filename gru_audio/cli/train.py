"""`gru-audio train`: from a dataset to a voice."""

import signal
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from gru_audio.cli.console import Json, Quiet, note, print_json, progress_bar


def train(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Folder that prep wrote.")],
    run: Annotated[
        Path, typer.Option("--run", metavar="RUN", help="Folder for checkpoints, metrics and the voice.")
    ],
    config: Annotated[
        str | None,
        typer.Option(
            "--config", metavar="C", help="Preset or TOML file; voice-16k if absent, the run's on --resume."
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override, e.g. model.gru_size=256."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's newest checkpoint.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, …")] = "auto",
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Torch's CPU threads; else one for each core that no data worker has."),
    ] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train a voice on a dataset, with mixed precision where the device has it.

    The voice is RUN/voice.safetensors, the best moving average so far. Ctrl-C and SIGTERM save a checkpoint
    and stop; the same command with --resume goes on.

    **Examples**

        gru-audio train datasets/mine --run runs/mine

        gru-audio train datasets/mine --run runs/small --config tiny --set train.steps=500

        gru-audio train datasets/mine --run runs/mine --resume
    """
    from gru_audio.config import load_config
    from gru_audio.dataset import Dataset

    stored = run / "config.toml"
    settings = load_config(
        config or (stored if resume and stored.is_file() else "voice-16k"), overrides or []
    )
    found = Dataset.open(dataset)  # before torch is imported, which takes seconds
    found.require_mel(settings.mel)
    found.require_pitch_range(settings.signal)
    from gru_audio import training

    with progress_bar("training", quiet=quiet) as progress:
        result = training.train(
            dataset, run, settings, resume=resume, device=device, threads=threads, progress=progress
        )
    if json:
        print_json(asdict(result))
    else:
        typer.echo(
            f"{run}: step {result.step:,} of {settings.train.steps:,}, validation {result.first_bits:.3f} -> "
            f"{result.last_bits:.3f} bits a sample (best {result.best_bits:.3f}), "
            f"{result.audio_s / result.wall_s:.1f} x real time in {result.wall_s:,.0f} s"
        )
    if not result.finished:
        note(f"stopped; go on with: gru-audio train {dataset} --run {run} --resume", quiet=quiet)
        raise typer.Exit(128 + (result.stopped_by or signal.SIGINT))
