"""`gru-audio prep`: files and folders of audio to a dataset."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gru_audio.cli.console import Json, Quiet, error_line, note, print_json, print_rows, progress_bar

if TYPE_CHECKING:
    from gru_audio.config import Config
    from gru_audio.data.prepare import Summary
    from gru_audio.data.survey import Survey


def prep(
    sources: Annotated[
        list[Path], typer.Argument(metavar="SOURCE", help="Audio files and folders.", show_default=False)
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DATASET", help="The dataset's folder.")
    ] = None,
    config: Annotated[
        str, typer.Option("--config", "-c", help="A TOML file, or a preset's name.")
    ] = "voice-16k",
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Change one setting; may be repeated."),
    ] = None,
    input_format: Annotated[
        str | None,
        typer.Option(metavar="FORMAT", help="ffmpeg's name of the files' format, such as g722."),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, help="Processes; by default one for each core.")
    ] = None,
    licence: Annotated[
        str, typer.Option(metavar="TEXT", help="The audio's licence and attribution, to travel with it.")
    ] = "",
    source_note: Annotated[str, typer.Option(metavar="TEXT", help="Where the audio comes from.")] = "",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a dataset of other sources or settings.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read everything, report on it, and write nothing.")
    ] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Make a dataset from audio: resampled, mono, trimmed, levelled, with pitch labels, in shards.

    LJSpeech, VCTK and LibriTTS are known by their folders; elsewhere a folder stands for a speaker. A file
    that cannot be used is named and the rest goes on; the exit code is then 1. A run that was interrupted
    goes on when it is started again.

    **Examples**

        gru-audio prep LJSpeech-1.1 --out data/lj --config ljspeech-22k --licence "public domain"

        gru-audio prep recordings/ more.m4a --out data/mine --set prep.loudness_lufs=-23.0

        gru-audio prep /usr/share/asterisk/sounds/it_IT_m_Carlo --input-format g722 --out data/carlo

        gru-audio prep recordings/ --dry-run
    """
    if out is None and not dry_run:
        raise typer.BadParameter("needed, except with --dry-run", param_hint="--out")
    from gru_audio.config import load_config

    settings = load_config(config, overrides or ())
    try:
        if dry_run:
            unusable = _survey(sources, settings, input_format, jobs, quiet=quiet, json=json)
        else:
            from gru_audio.data.prepare import prepare

            assert out is not None
            with progress_bar("preparing", quiet=quiet) as progress:
                summary = prepare(
                    sources,
                    out,
                    settings,
                    input_format=input_format,
                    jobs=jobs,
                    licence=licence,
                    source_note=source_note,
                    overwrite=overwrite,
                    progress=progress,
                )
            _show_summary(summary, out, json=json)
            unusable = summary.skipped
    except KeyboardInterrupt:
        note("stopped; the same command goes on from here" if not dry_run else "stopped")
        raise typer.Exit(130) from None
    for path, reason in unusable:
        error_line(f"{path}: {reason}")
    if unusable:
        raise typer.Exit(1)


def _survey(
    sources: list[Path],
    settings: "Config",
    input_format: str | None,
    jobs: int | None,
    *,
    quiet: bool,
    json: bool,
) -> tuple[tuple[str, str], ...]:
    """The dry run; the files that cannot be used."""
    from gru_audio.data.survey import survey

    with progress_bar("reading", quiet=quiet) as progress:
        found = survey(sources, settings, input_format=input_format, jobs=jobs, progress=progress)
    _show_survey(found, json=json)
    return found.unusable


def _show_summary(summary: "Summary", out: Path, *, json: bool) -> None:
    from gru_audio.data.sources import readable
    from gru_audio.inspection.terminal_plot import duration_text

    if json:
        print_json({"dataset": readable(out), **asdict(summary)})
        return
    rows = {
        "dataset": str(out),
        "clips": f"{summary.clips} ({_counts(summary.splits)})",
        "audio": duration_text(summary.duration_s),
        "speakers": _first(summary.speakers),
        "shards": f"{summary.made_shards} made, {summary.kept_shards} kept",
        "skipped": str(len(summary.skipped)),
        "ignored": f"{summary.ignored} other files",
        "clipped": _first(summary.clipped),
        "duplicates": _first([" = ".join(names) for names in summary.duplicates]),
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
        "audio": duration_text(found.duration_s),
        "sample rates": _counts(rates),
        "speakers": _first(found.speakers),
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


def _first(names: Sequence[str] | Mapping[str, int], shown: int = 3) -> str:
    """How many names there are, and the first of them."""
    more = ", ..." if len(names) > shown else ""
    return f"{len(names)} ({', '.join(list(names)[:shown])}{more})" if names else "0"
