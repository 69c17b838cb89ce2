"""`gru-audio train`: from a dataset to a voice."""

import contextlib
import math
import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gru_audio.cli.console import note, print_json, progress_bar, say
from gru_audio.cli.options import (
    DeviceName,
    InitVoice,
    Json,
    Quiet,
    Settings,
    config_option,
    input_argument,
    output_option,
)
from gru_audio.errors import GruAudioError
from gru_audio.training.launch import Launch
from gru_audio.voice.run_folder import CONFIG_FILE, VOICE_FILE

if TYPE_CHECKING:
    from gru_audio.arrays import FloatArray, Made
    from gru_audio.config import Config
    from gru_audio.data.dataset import Dataset
    from gru_audio.training.fine_tuning import StartingVoice
    from gru_audio.training.judging.free_running import Synthesizer
    from gru_audio.training.result import TrainResult
    from gru_audio.voice.voice import Voice


_HEAD_START_S = 3.0  # of a machine's first process: torchrun ends the others within a fraction of a second


class LogName(str, Enum):
    """What `--log-to` takes: the names of `training.loggers`, and none of them."""

    tensorboard = "tensorboard"
    wandb = "wandb"
    none = "none"


def train(
    dataset: Annotated[Path, input_argument("DATASET", "Folder that prep wrote.")],
    run: Annotated[Path, output_option("RUN", "The run's folder: checkpoints, metrics and the voice.")],
    config: Annotated[
        str | None, config_option("voice-16k; with --init the voice's, with --resume the run's")
    ] = None,
    overrides: Settings = None,
    init: InitVoice = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's newest checkpoint.")] = False,
    device: DeviceName = "auto",
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads",
            min=1,
            max=1024,
            help="CPU threads of a training step.",
            show_default="one for each core that no data worker has",
        ),
    ] = None,
    log_to: Annotated[
        list[LogName] | None,
        typer.Option(
            "--log-to",
            help="Where figures are shown, beside RUN/metrics.jsonl; may be repeated.",
            show_default="tensorboard",
        ),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Check the whole dataset against its digests first; otherwise each clip is checked when it is read.",
        ),
    ] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train a voice on a dataset, with mixed precision where the device has it.

    The voice is RUN/voice.safetensors, the best moving average so far. Ctrl-C, SIGTERM and SIGHUP (a closed terminal)
    save a checkpoint and stop; the same command with --resume goes on.

    With --init a few minutes of your own speech are enough: it does up to 1,500 steps, and stops earlier when the
    held-out clips no longer get better. If they never got better, the result is the voice that it began with.

    **Examples**

        gru-audio train datasets/mine -o runs/mine

        gru-audio train datasets/mine -o runs/small -c tiny --set train.steps=500

        gru-audio train datasets/mine -o runs/mine --resume

        gru-audio train datasets/me -o runs/me --init debian-16k

        torchrun --nproc-per-node=2 --max-restarts=3 -m -- gru_audio train datasets/mine -o runs/mine
    """
    if init is not None and resume:
        raise typer.BadParameter(
            "a run starts from a voice once; leave it out to go on from the run's checkpoint",
            param_hint="--init",
        )
    names = [name.value for name in log_to or [LogName.tensorboard]]
    if "none" in names and len(names) > 1:
        raise typer.BadParameter("none cannot be given with another", param_hint="--log-to")
    launch = Launch.of(os.environ)
    with _one_voice(launch):
        result = _train(
            dataset, run, config, overrides or [], init, resume=resume, device=device, threads=threads,
            log_to=[name for name in names if name != "none"],
            verify=verify and launch.leads, quiet=quiet or not launch.leads, leads=launch.leads,
        )  # fmt: skip
    if launch.leads:
        show_result(run, result, json=json, quiet=quiet)
    if not result.finished:
        resume_it = f"stopped; go on with: gru-audio train {dataset} -o {run} --resume"
        note(resume_it, quiet=quiet or not launch.leads)
        raise typer.Exit(128 + (result.stopped_by or signal.SIGINT))


@contextlib.contextmanager
def _one_voice(launch: Launch) -> Iterator[None]:
    """Of several processes let the first say what went wrong, as long as it can.

    Before they have met it cannot. There the first on each machine speaks; another waits whether that one fails as
    well, after which torchrun ends it, too.
    """
    try:
        yield
    except GruAudioError as error:
        if error.told:
            raise typer.Exit(1) from error
        if launch.local_rank and error.told is None:
            time.sleep(_HEAD_START_S)
        raise


def show_result(run: Path, result: "TrainResult", *, json: bool, quiet: bool) -> None:
    """How a run ended."""
    if json:
        print_json(asdict(result))
        return
    went_back = f", {result.returns} returns to a checkpoint" if result.returns else ""
    settled = ", free runs no longer better" if result.settled else ""
    best = f" (best {result.best_bits:.3f})" if math.isfinite(result.best_bits) else ""
    say(
        f"{run}: step {result.step:,} of {result.steps:,}{settled}, validation {result.first_bits:.3f} -> "
        f"{result.last_bits:.3f} bits a sample{best}, "
        f"{result.audio_s / result.wall_s:.1f} x real time in {result.wall_s:,.0f} s{went_back}"
    )
    if result.keeps_the_start:
        note(
            f"nothing was better than the voice it began with; {run / VOICE_FILE} is that voice", quiet=quiet
        )


def _train(
    dataset: Path,
    run: Path,
    config: str | None,
    overrides: list[str],
    init: str | None,
    *,
    resume: bool,
    device: str,
    threads: int | None,
    log_to: list[str],
    verify: bool,
    quiet: bool,
    leads: bool,
) -> "TrainResult":
    """Find the settings, and train."""
    from gru_audio.data.dataset import Dataset
    from gru_audio.extras import require

    require("train", "training")
    if "wandb" in log_to:
        require("wandb", "--log-to wandb")
    settings, start = _settings(config, overrides, init, run if resume else None)
    found = Dataset.open(dataset)  # before torch is imported, which takes seconds
    if start is None:
        found.require_mel(settings.mel)
        found.require_pitch_range(settings.signal)
    if verify:
        with progress_bar("verifying", quiet=quiet) as progress:
            found.verify(progress)
    from gru_audio.progress import ignore_note
    from gru_audio.training import run as run_room

    synthesize = _free_running_synthesizer(settings, quiet=quiet)
    with progress_bar("training", quiet=quiet) as progress:
        result = run_room.train(
            dataset, run, settings, resume=resume, start=start, synthesize=synthesize, device=device, threads=threads,
            log_to=log_to, progress=progress, tell=note if leads else ignore_note,
        )  # fmt: skip
    if result.finished and synthesize is not None and leads:
        _choose_sampling(run, found, synthesize, quiet=quiet)
    return result


def _choose_sampling(run: Path, dataset: "Dataset", synthesize: "Synthesizer", *, quiet: bool) -> None:
    """Store in the run's voice how it is drawn best, and tell."""
    from gru_audio.synthesis.sampling import CANDIDATES
    from gru_audio.training.judging.best_sampling import choose_sampling

    best, score = choose_sampling(run, dataset, synthesize, [candidate.told() for candidate in CANDIDATES])
    told = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in best.items())
    measured = (
        "" if score is None else f" ({score.measure.replace('_', ' ')} {score.value:.2f} on held-out clips)"
    )
    note(f"drawn with {told}{measured}", quiet=quiet)


def _settings(
    config: str | None, overrides: list[str], init: str | None, resumed: Path | None
) -> "tuple[Config, StartingVoice | None]":
    """The settings, and the voice that a run starts from; `resumed` is a run that goes on with its own."""
    from gru_audio.config import load_config, with_overrides

    if init is None:
        stored = None if resumed is None else resumed / CONFIG_FILE
        if config is None and stored is not None and not stored.is_file():
            from gru_audio.training.saved.checkpoint import newest_config
            from gru_audio.training.saved.standing import nothing_to_resume

            if (kept := newest_config(stored.parent)) is None:
                raise nothing_to_resume(stored.parent)
            return with_overrides(kept, overrides), None
        return load_config(config or stored or "voice-16k", overrides), None
    from gru_audio.training.fine_tuning import StartingVoice

    start = StartingVoice.read(init)
    if config:
        return load_config(config, overrides, base=start.config), start
    return with_overrides(start.config, overrides), start


def _free_running_synthesizer(settings: "Config", *, quiet: bool) -> "Synthesizer | None":
    """What makes the audio of free-running validation; None where that is off."""
    if not settings.train.free_running_every:
        return None
    from gru_audio.synthesis.vocoder import Vocoder
    from gru_audio.training.judging.free_running import has_pesq

    if not has_pesq():
        note(
            "free-running validation goes by the log-mel distance, since pesq is not installed; for PESQ: "
            "pip install 'gru-audio[eval]'",
            quiet=quiet,
        )

    def synthesize(voice: "Voice", mels: "Sequence[FloatArray]") -> "list[Made]":
        return Vocoder(voice).synthesize_both(mels)

    return synthesize
