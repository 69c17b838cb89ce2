"""`gru-audio mel`: mels of audio, for a TTS to train on."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from gru_audio.cli.console import error_line, note, print_json, progress_bar
from gru_audio.cli.options import Json, Quiet, input_argument, jobs_option, mel_option, output_option


class MelFormat(str, Enum):
    """What is written."""

    npz = "npz"
    npy = "npy"
    pt = "pt"
    safetensors = "safetensors"


class AxisFirst(str, Enum):
    """How an array lies."""

    frames = "frames"
    bands = "bands"


def mel(
    inputs: Annotated[list[Path], input_argument("AUDIO…", "Files or folders of audio.")],
    output: Annotated[Path, output_option("DIR", "The folder for the mels.")],
    contract: Annotated[
        str | None, mel_option("How the mels are made: a preset such as hifigan-22k, a TOML file, or a run.")
    ] = None,
    voice: Annotated[
        str | None,
        typer.Option("--voice", "-v", metavar="VOICE", help="Instead of --mel: as this voice wants them."),
    ] = None,
    format: Annotated[
        MelFormat, typer.Option("--format", help="npz and safetensors state the contract, too.")
    ] = MelFormat.npz,
    layout: Annotated[AxisFirst, typer.Option("--layout", help="Which axis comes first.")] = AxisFirst.frames,
    jobs: Annotated[int | None, jobs_option("Processes, each with a file of its own.")] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Write the mels of audio, for a TTS to train on: the mels that it makes then fit a voice with the same contract.

    Audio of another rate is resampled, and padded with silence to whole frames. A file that fails is named and the
    rest goes on; the exit code is then 1.

    **Examples**

        gru-audio mel speech/ -o mels/ --mel hifigan-22k

        gru-audio mel speech.wav -o mels/ --voice runs/mine --format npy --layout bands
    """
    from gru_audio.config import load_mel_config
    from gru_audio.signal.mel_adapt.conversion import summary
    from gru_audio.signal.mel_making import make_mels, plan_mels

    if (contract is None) == (voice is None):
        raise typer.BadParameter("give this or --voice, one of the two", param_hint="--mel")
    if voice is not None:
        from gru_audio.voice.voice import load_voice

        config = load_voice(voice).config.mel
    else:
        config = load_mel_config(str(contract))
    tasks = plan_mels(inputs, output, f".{format.value}", config, layout.value)
    with progress_bar("making mels", quiet=quiet) as progress:
        results = list(make_mels(tasks, jobs, progress))
    for result in results:
        if result.error:
            error_line(result.error)
    n_frames, n_made = sum(result.n_frames for result in results), sum(not one.error for one in results)
    if json:
        files = [
            {
                "input": str(result.task.source),
                "output": None if result.error else str(result.task.target),
                "n_frames": result.n_frames,
                "error": result.error,
            }
            for result in results
        ]
        print_json({"mel": config.model_dump(), "files": files})
    elif n_made:
        seconds = n_frames / config.frame_rate_hz
        note(
            f"{output}: {n_made} mel{'s' * (n_made != 1)}, {seconds:.1f} s of audio, {summary(config)}",
            quiet=quiet,
        )
    if n_made < len(results):
        raise typer.Exit(1)
