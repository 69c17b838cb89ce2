"""`gru-audio synthesize`: audio or mels to WAV."""

import time
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from gru_audio.cli.console import Json, Quiet, error_line, note, print_json, progress_bar


class Format(str, Enum):
    """What is written."""

    wav = "wav"
    flac = "flac"


def synthesize(
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="INPUT…", help="Audio, mels (.npy .npz .pt .safetensors), or folders."),
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="OUT", help="A .wav or .flac file, or a folder.")
    ] = None,
    voice: Annotated[
        Path | None, typer.Option("--voice", metavar="VOICE", help="A voice file, or the folder of a run.")
    ] = None,
    engine: Annotated[str, typer.Option(help="auto, float32 (compiled, CPU) or torch.")] = "auto",
    device: Annotated[str, typer.Option(help="Of the torch engine: auto, cpu, cuda, …")] = "auto",
    mel: Annotated[
        str | None,
        typer.Option(
            "--mel",
            metavar="CONTRACT",
            help="Contract of mels that state none: a preset such as hifigan-22k, or TOML.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same samples.")] = 0,
    temperature: Annotated[float, typer.Option(help="Below 1 less noisy, above 1 more.")] = 1.0,
    tail_cut: Annotated[float, typer.Option(help="Choices less likely than this are never made.")] = 0.0,
    format: Annotated[
        Format, typer.Option("--format", help="Where OUT does not say: 16-bit wav or flac.")
    ] = Format.wav,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Generate speech: from audio (through its mel: copy-synthesis), or from mels that another tool made.

    A file that fails is named and the rest goes on; the exit code is then 1.

    **Examples**

        gru-audio synthesize speech.wav -o out.wav --voice runs/mine

        gru-audio synthesize mels/ -o wavs/ --voice runs/mine --mel hifigan-22k --temperature 0.8
    """
    from gru_audio.config import load_mel_config
    from gru_audio.synthesis.batch import Sampling, plan_jobs, synthesize_files
    from gru_audio.synthesis.vocoder import load

    jobs = plan_jobs(inputs, output, f".{format.value}")
    contract = load_mel_config(mel) if mel else None
    vocoder = load(voice, engine, device)
    sampling = Sampling(seed, temperature, tail_cut)
    began, results = time.perf_counter(), []
    with progress_bar("synthesizing", quiet=quiet) as progress:
        for result in synthesize_files(
            vocoder, jobs, sampling=sampling, contract=contract, progress=progress
        ):
            results.append(result)
            if result.error:
                error_line(result.error)
            elif result.n_clipped:
                note(
                    f"{result.job.target}: {result.n_clipped} samples over full scale were clipped",
                    quiet=quiet,
                )
    wall_s = time.perf_counter() - began
    audio_s = sum(result.audio_s for result in results)
    written = [result for result in results if not result.error]
    if json:
        files = [
            {
                "input": str(result.job.source),
                "output": None if result.error else str(result.job.target),
                "duration_s": result.audio_s,
                "clipped_samples": result.n_clipped,
                "error": result.error,
            }
            for result in results
        ]
        print_json({"engine": vocoder.engine_name, "audio_s": audio_s, "wall_s": wall_s, "files": files})
    elif written:
        place = written[0].job.target if len(written) == 1 else f"{len(written)} files"
        typer.echo(
            f"{place}: {audio_s:.2f} s of audio in {wall_s:.2f} s, {audio_s / wall_s:.2f} x real time, "
            f"engine {vocoder.engine_name}"
        )
    if len(written) < len(results):
        raise typer.Exit(1)
