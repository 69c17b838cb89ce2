"""`gru-audio prep`: files and folders of audio to a dataset."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from gru_audio.cli.console import error_line, note, print_json, print_rows, progress_bar, workers
from gru_audio.cli.options import (
    Cluster,
    Json,
    Quiet,
    Settings,
    config_option,
    input_argument,
    jobs_option,
    output_option,
)
from gru_audio.cli.stopping import stop_code

if TYPE_CHECKING:
    from gru_audio.config import Config
    from gru_audio.data.outcome import Summary
    from gru_audio.data.sources import SpeakerRule
    from gru_audio.data.survey import Survey


def prep(
    sources: Annotated[list[Path] | None, input_argument("SOURCE…", "Audio files and folders.")] = None,
    output: Annotated[
        Path | None, output_option("DATASET", "The dataset's folder; needed, except with --dry-run.")
    ] = None,
    config: Annotated[str, config_option()] = "voice-16k",
    overrides: Settings = None,
    manifests: Annotated[
        list[Path] | None,
        typer.Option(
            "--manifest",
            metavar="LISTING",
            help="CSV, TSV, piper's or LJSpeech's lines, wav.scp, JSON lines; WebDataset or Hugging Face folders.",
            readable=False,
        ),
    ] = None,
    mels: Annotated[
        Path | None,
        typer.Option(
            "--mels",
            metavar="FOLDER",
            help="Mels that a TTS made of the recordings, to train on; paired by name.",
            readable=False,
        ),
    ] = None,
    speaker_level: Annotated[
        int | None,
        typer.Option(
            "--speaker-level",
            metavar="N",
            help="The folder that names the speaker: 1 the first below SOURCE, 0 SOURCE, -1 the file's own.",
        ),
    ] = None,
    speaker_pattern: Annotated[
        str | None,
        typer.Option(
            "--speaker-pattern",
            metavar="REGEX",
            help="Searched for in a file's path below SOURCE; its group is the speaker.",
        ),
    ] = None,
    input_format: Annotated[
        str | None,
        typer.Option(
            "--input-format", metavar="FORMAT", help="ffmpeg's name of the files' format, such as g722."
        ),
    ] = None,
    jobs: Annotated[int | None, jobs_option("Processes, each with files of its own.")] = None,
    cluster: Cluster = None,
    licence: Annotated[
        str,
        typer.Option(
            "--licence", metavar="TEXT", help="The audio's licence and attribution, to travel with it."
        ),
    ] = "",
    source_note: Annotated[
        str, typer.Option("--source-note", metavar="TEXT", help="Where the audio comes from.")
    ] = "",
    append: Annotated[
        bool, typer.Option("--append", help="Add what the dataset does not have yet; redo nothing.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a dataset of other sources or settings.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read everything, report on it, and write nothing.")
    ] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Make a dataset from audio: resampled, mono, trimmed, with pitch labels, in shards.

    LJSpeech, VCTK, LibriTTS, M-AILABS and others are recognised by their folders; elsewhere a folder stands for a
    speaker. Recordings of more than prep.longest_s are cut at pauses. A file that cannot be used is named and the
    rest goes on; the exit code is then 1. A run that was interrupted goes on when it is started again.

    **Examples**

        gru-audio prep LJSpeech-1.1 -o data/lj -c ljspeech-22k --licence "public domain"

        gru-audio prep recordings/ more.m4a -o data/mine --set prep.loudness_lufs=-23.0

        gru-audio prep /usr/share/asterisk/sounds/it_IT_m_Carlo --input-format g722 -o data/carlo

        gru-audio prep --manifest train.csv --manifest /data/webdataset -o data/large

        gru-audio prep LJSpeech-1.1 --mels teacher-forced/ -o data/lj-tts -c ljspeech-22k

        gru-audio prep more-recordings/ -o data/mine --append

        gru-audio prep /share/recordings -o /share/data --cluster tcp://10.0.0.1:8786

        gru-audio prep recordings/ --dry-run --speaker-level 2
    """
    if output is None and not dry_run:
        raise typer.BadParameter("needed, except with --dry-run", param_hint="--output")
    if not sources and not manifests:
        raise typer.BadParameter("name files or folders, or a listing with --manifest", param_hint="SOURCE…")
    if speaker_level is not None and speaker_pattern is not None:
        raise typer.BadParameter("give it or --speaker-level, not both", param_hint="--speaker-pattern")
    if append and (overwrite or dry_run):
        other = "--overwrite" if overwrite else "--dry-run"
        raise typer.BadParameter(f"cannot go with {other}", param_hint="--append")
    from gru_audio.config import PREP_TABLES, load_config
    from gru_audio.data.sources import SpeakerRule

    settings, given = load_config(config, overrides or (), PREP_TABLES), sources or []
    inputs: _Inputs = {
        "manifests": manifests or [],
        "speakers": SpeakerRule(speaker_level, speaker_pattern),
        "input_format": input_format,
        "jobs": jobs,
    }
    try:
        if dry_run:
            with workers(cluster, jobs):
                unusable = _survey(given, settings, inputs, quiet=quiet, json=json)
        else:
            from gru_audio.data.prepare import prepare

            assert output is not None
            with workers(cluster, jobs), progress_bar("preparing", quiet=quiet) as progress:
                summary = prepare(
                    given,
                    output,
                    settings,
                    mels=mels,
                    licence=licence,
                    source_note=source_note,
                    append=append,
                    overwrite=overwrite,
                    progress=progress,
                    **inputs,
                )
            _show_summary(summary, output, json=json)
            _show_notes(summary, quiet=quiet)
            unusable = summary.skipped
    except KeyboardInterrupt as stop:
        note("stopped; the same command goes on from here" if not dry_run else "stopped")
        raise typer.Exit(stop_code(stop)) from None
    for path, reason in unusable:
        error_line(f"{path}: {reason}")
    if unusable:
        raise typer.Exit(1)


class _Inputs(TypedDict):
    """What says how sources are read."""

    manifests: Sequence[Path]
    speakers: "SpeakerRule"
    input_format: str | None
    jobs: int | None


def _survey(
    sources: list[Path], settings: "Config", inputs: _Inputs, *, quiet: bool, json: bool
) -> tuple[tuple[str, str], ...]:
    """The dry run; the files that cannot be used."""
    from gru_audio.data.survey import survey

    with progress_bar("reading", quiet=quiet) as progress:
        found = survey(sources, settings, progress=progress, **inputs)
    _show_survey(found, json=json)
    _show_notes(found, quiet=quiet)
    return found.unusable


def _show_notes(result: "Summary | Survey", *, quiet: bool) -> None:
    """How listings were understood, and what training would say."""
    for line in result.notes:
        note(line, quiet=quiet)
    for line in result.warnings:
        note(f"warning: {line}")


def _show_summary(summary: "Summary", out: Path, *, json: bool) -> None:
    from gru_audio.inspection.terminal_plot import duration_text
    from gru_audio.names import readable

    if json:
        print_json({"dataset": readable(out), **asdict(summary)})
        return
    rows = {
        "dataset": str(out),
        "clips": f"{summary.clips} ({_counts(summary.splits)})",
        "audio": duration_text(summary.duration_s),
        "speakers": _first(summary.speakers),
        "shards": f"{summary.made_shards} made, {summary.kept_shards} kept",
        "skipped": str(summary.n_skipped),
        **({"known": f"{summary.known} recordings were there already"} if summary.known else {}),
        "ignored": f"{summary.ignored} other files",
        "clipped": _first(summary.clipped, summary.n_clipped),
        "duplicates": _first([" = ".join(names) for names in summary.duplicates], summary.n_duplicates),
    }
    print_rows(rows)


def _show_survey(found: "Survey", *, json: bool) -> None:
    from gru_audio.inspection.terminal_plot import duration_text

    if json:
        print_json(asdict(found))
        return
    rates = {f"{rate} Hz": count for rate, count in found.sample_rates_hz.items()}
    rows = {
        "files": f"{found.files} ({_counts(found.formats)})",
        "clips": f"{found.clips}, cut at pauses where longer than prep.longest_s",
        "audio": duration_text(found.duration_s),
        "sample rates": _counts(rates),
        "speakers": f"{len(found.speakers)}: "
        + ", ".join(f"{name} {minutes:.1f} min" for name, minutes in found.speaker_minutes.items()),
        "padded": f"{found.padded} shorter than prep.min_duration_s",
        "unusable": str(len(found.unusable)),
        "ignored": f"{found.ignored} other files",
        "clipped": _first(found.clipped),
        "duplicates": _first([" = ".join(paths) for paths in found.duplicates]),
        "disk needed": f"at most {found.disk_bytes / 1e6:.1f} MB",
    }
    print_rows(rows)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _first(names: Sequence[str] | Mapping[str, int], count: int | None = None, shown: int = 3) -> str:
    """How many names there are, by default as many as are given, and the first of them."""
    more = ", ..." if len(names) > shown else ""
    return f"{count or len(names)} ({', '.join(list(names)[:shown])}{more})" if names else "0"
