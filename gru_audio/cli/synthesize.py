"""`gru-audio synthesize`: audio or mels to WAV, or a pipe to PCM."""

import sys
import time
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypedDict

import typer

from gru_audio.cli.console import error_line, made_to_stay, note, print_json, progress_bar, say, workers
from gru_audio.cli.options import (
    STANDARD,
    Cluster,
    DeviceName,
    EngineName,
    Json,
    Quiet,
    Seed,
    Temperature,
    VoiceName,
    input_argument,
    jobs_option,
    mel_option,
    output_option,
)
from gru_audio.names import shown
from gru_audio.voice.bundled import DEFAULT_VOICE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from gru_audio.config import MelConfig
    from gru_audio.synthesis.jobs.plan import Result
    from gru_audio.synthesis.sampling import Sampling
    from gru_audio.synthesis.vocoder import Vocoder

_READER_LEFT = 128 + 13  # as a shell reports SIGPIPE


class Format(str, Enum):
    """What is written."""

    wav = "wav"
    flac = "flac"


class Content(str, Enum):
    """What stdin holds."""

    mel = "mel"
    pcm = "pcm"


def synthesize(
    inputs: Annotated[
        list[Path],
        input_argument("INPUT…", "Audio, mels (.npy .npz .pt .safetensors), or folders; or - for stdin."),
    ],
    output: Annotated[
        Path | None,
        output_option(
            "OUT",
            "A .wav or .flac file, or a folder.",
            "NAME-synthesized.wav here; with -, stdout",
            takes_stdout=True,
        ),
    ] = None,
    voice: VoiceName = DEFAULT_VOICE,
    engine: EngineName = "auto",
    device: DeviceName = "auto",
    mel: Annotated[
        str | None,
        mel_option(
            "Contract of mels that state none: a preset such as hifigan-22k, a TOML file, a run, or what differs from "
            "the voice's, as in log=log10."
        ),
    ] = None,
    adapt: Annotated[
        bool,
        typer.Option("--adapt", help="Interpolate mels with other bands, hops or windows, at some loss."),
    ] = False,
    sharpen: Annotated[
        float,
        typer.Option(
            "--sharpen",
            min=0,
            max=3,
            help="By how much to sharpen mels that are too smooth, as a TTS' may be.",
        ),
    ] = 0.0,
    force: Annotated[
        bool, typer.Option("--force", help="Take mels that do not look like what the voice wants.")
    ] = False,
    seed: Seed = 0,
    temperature: Temperature = None,
    tail_cut: Annotated[
        float, typer.Option("--tail-cut", help="Choices less likely than this are never made.")
    ] = 0.0,
    corrections: Annotated[
        int | None,
        typer.Option(
            "--corrections",
            min=0,
            max=100,
            help="Rounds that bring the audio nearer to its mel; 0 for the least lookahead.",
            show_default="1, for some mels 2, or 0 where their windows are too short for any",
        ),
    ] = None,
    format: Annotated[
        Format, typer.Option("--format", help="What to write where OUT does not say.")
    ] = Format.wav,
    jobs: Annotated[
        int | None, jobs_option("Threads, each with a clip of its own. Not for the engine torch.")
    ] = None,
    cluster: Cluster = None,
    stdin: Annotated[
        Content,
        typer.Option(
            "--stdin", help="What comes with -: mel, frames of float32; or pcm, 16-bit mono samples."
        ),
    ] = Content.mel,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Generate speech: from audio (through its mel: copy-synthesis), or from mels that another tool made.

    A file that fails is named and the rest goes on; the exit code is then 1.

    With - it reads a stream from stdin and writes its audio to stdout as early as possible. The input is mel frames
    of n_mels float32 values (--stdin mel), or 16-bit mono samples at the voice's rate (--stdin pcm); the output is such
    samples. Both are little-endian and have no header. A frame's audio comes after the next 6 frames, or 2 with
    --corrections 0: with the default contract that is a lookahead of 75 or 25 ms, and the first audio comes after
    87.5 or 37.5 ms of mel. PCM takes another 18.8 ms, because its analysis also looks ahead; --adapt up to two frames
    of what it is given.

    **Examples**

        gru-audio synthesize speech.wav -o out.wav

        gru-audio synthesize mels/ -o wavs/ --voice runs/mine --mel hifigan-22k --temperature 0.8 --jobs 4

        tts --mel-frames | gru-audio synthesize - --voice runs/mine | aplay -f S16_LE -r 16000 -c 1
    """
    with made_to_stay():
        from gru_audio.config import load_mel_config
        from gru_audio.synthesis.jobs.batch import synthesize_files
        from gru_audio.synthesis.jobs.plan import plan_jobs
        from gru_audio.synthesis.sampling import Sampling
        from gru_audio.synthesis.vocoder import load

        piped = STANDARD in inputs
        if output == STANDARD:
            if not piped:
                raise typer.BadParameter(
                    "stdout takes the audio of a stream, whose INPUT is -; give a .wav or .flac file, or a folder",
                    param_hint="--output",
                )
            output = None
        if piped:
            _check_pipe(inputs, output, json, cluster)
        planned = [] if piped else plan_jobs(inputs, output, f".{format.value}")
        sampling = Sampling(seed, temperature, tail_cut)
        contract = load_mel_config(mel) if mel is not None and "=" not in mel else None
        # A cluster's workers need not have the GPU that may be here.
        vocoder = load(voice, engine, device, corrections, 1 if cluster else len(planned))
        if mel is not None and contract is None:
            contract = load_mel_config(mel, vocoder.mel_config)
    if vocoder.engine_reason and len(planned) > 1:
        note(f"engine {vocoder.engine_name}: {vocoder.engine_reason}", quiet=quiet)
    began, results, told = time.perf_counter(), list["Result"](), set[str]()
    display = progress_bar("synthesizing", quiet=quiet or piped)
    with workers(cluster, jobs), display as progress:
        how: _How = {
            "sampling": sampling,
            "contract": contract,
            "adapt": adapt,
            "sharpen": sharpen,
            "check": not force,
        }
        made: Iterable[Result]
        if piped:
            made = _from_stdin(vocoder, stdin.value, output, how, quiet)
        elif cluster is not None:
            from gru_audio.synthesis.jobs.spread import SentVoice, synthesize_in_processes

            sent = SentVoice.of(voice, vocoder.engine_name, device, corrections)
            made = synthesize_in_processes(vocoder, sent, planned, progress=progress, **how)
        else:
            made = synthesize_files(vocoder, planned, threads=jobs, progress=progress, **how)
        for result in made:
            results.append(result)
            _tell(result, told, quiet)
    _show(vocoder.engine_name, results, time.perf_counter() - began, quiet, json)
    if any(result.error for result in results):
        raise typer.Exit(1)


class _How(TypedDict):
    """How files become audio."""

    sampling: "Sampling"
    contract: "MelConfig | None"
    adapt: bool
    sharpen: float
    check: bool


def _check_pipe(inputs: "Sequence[Path]", output: Path | None, json: bool, cluster: str | None) -> None:
    """Refuse, as a wrong use of the command, what cannot be done with a pipe."""
    if cluster is not None:
        raise typer.BadParameter("a cluster cannot work on a stream; name files", param_hint="--cluster")
    if len(inputs) > 1:
        raise typer.BadParameter("- must be the only input; give it alone", param_hint="INPUT")
    if sys.stdin is None or sys.stdin.isatty():
        raise typer.BadParameter(
            "stdin is neither a pipe nor a file; pipe mel frames or PCM in", param_hint="INPUT"
        )
    if output is None and json:
        raise typer.BadParameter(
            "stdout carries the audio; add -o FILE, or leave --json out", param_hint="--json"
        )
    if output is None and (sys.stdout is None or sys.stdout.isatty()):
        raise typer.BadParameter(
            "stdout is neither a pipe nor a file; pipe it to a player, or add -o FILE", param_hint="INPUT"
        )
    if output is not None and (output.suffix.lower() not in (".wav", ".flac") or output.is_dir()):
        raise typer.BadParameter(
            f"{shown(str(output))}: a stream has no name for a file in a folder; give a .wav or .flac file",
            param_hint="--output",
        )


def _from_stdin(
    vocoder: "Vocoder",
    content: Literal["mel", "pcm"],
    output: Path | None,
    how: _How,
    quiet: bool,
) -> "Iterator[Result]":
    """The one result of a pipe."""
    from gru_audio.files import require_writable
    from gru_audio.synthesis.jobs.pipe import synthesize_pipe

    if output is not None:
        require_writable(output.parent)
    vocoder.warm_up()
    pcm, mel = f"s16le, mono, {vocoder.sample_rate} Hz", how["contract"] or vocoder.mel_config
    whose = (
        "the contract of --mel" if how["contract"] else "the voice's own contract, as no --mel names another"
    )
    frames = f"mel frames of {mel.n_mels} float32 values, {mel.frame_rate_hz:g} a second, under {whose}"
    goes_to = f"stdout: {pcm}" if output is None else str(output)
    note(f"stdin: {pcm if content == 'pcm' else frames}; {goes_to}", quiet=quiet)
    try:
        yield synthesize_pipe(
            vocoder, content, output, tell=lambda text: note(f"stdin: {text}", quiet=quiet), **how
        )
    except BrokenPipeError:
        raise typer.Exit(_READER_LEFT) from None


def _tell(result: "Result", told: set[str], quiet: bool) -> None:
    """What a user should know of a result; what is so of many files, of the first."""
    for text in result.notes:
        if text not in told:
            note(f"{result.job.source}: {text}", quiet=quiet)
            told.add(text)
    if result.n_clipped:
        name = "stdout" if result.job.target == STANDARD else result.job.target
        note(f"{name}: {result.n_clipped} samples over full scale were clipped", quiet=quiet)
    if result.error:
        error_line(result.error)


def _show(engine: str, results: "Sequence[Result]", wall_s: float, quiet: bool, json: bool) -> None:
    """The results as JSON or in a line on stdout, or on stderr where stdout carries the audio."""
    audio_s = sum(result.audio_s for result in results)
    written = [result for result in results if result.written]
    if json:
        files = [
            {
                "input": str(result.job.source),
                "output": str(result.job.target) if result.written else None,
                "duration_s": result.audio_s,
                "clipped_samples": result.n_clipped,
                "error": result.error,
            }
            for result in results
        ]
        print_json({"engine": engine, "audio_s": audio_s, "wall_s": wall_s, "files": files})
    elif written:
        place = written[0].job.target if len(written) == 1 else f"{len(written)} files"
        line = (
            f"{place}: {audio_s:.2f} s of audio in {wall_s:.2f} s, {audio_s / wall_s:.2f} x real time, "
            f"engine {engine}"
        )
        if place == STANDARD:
            note(f"stdout{line.removeprefix(str(STANDARD))}", quiet=quiet)
        else:
            say(line)
