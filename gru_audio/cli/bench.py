"""`gru-audio bench`: how fast this machine synthesizes and trains."""

import os
from typing import TYPE_CHECKING, Annotated

import typer

from gru_audio.cli.console import note, print_json, print_table, progress_bar
from gru_audio.cli.options import DeviceName, Json, Quiet

if TYPE_CHECKING:
    from gru_audio.bench.run import Report

_QUICK_SECONDS, _QUICK_TURNS = 0.2, 2
_SIZES = ("B", "KiB", "MiB", "GiB")


def bench(
    case: Annotated[
        list[str] | None,
        typer.Option(
            "--case",
            metavar="CASE",
            help="A preset, PRESET-dense, lpcnet-size, lpcnet-size-s2 or a .toml file; may be repeated.",
            show_default="all",
        ),
    ] = None,
    engine: Annotated[
        list[str] | None,
        typer.Option(
            "--engine",
            metavar="ENGINE",
            help="int8, float32 or torch; may be repeated.",
            show_default="all",
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            "--seconds",
            min=0.01,
            max=3_600,
            help="Seconds of audio in each turn, or of time where that is less.",
            show_default="1; with --quick 0.2",
        ),
    ] = None,
    turns: Annotated[
        int | None,
        typer.Option(
            "--turns",
            min=1,
            max=10_000,
            help="How often each figure is taken.",
            show_default="5; with --quick 2",
        ),
    ] = None,
    device: DeviceName = "cpu",
    quick: Annotated[bool, typer.Option("--quick", help="A short, rough run.")] = False,
    training: Annotated[
        bool, typer.Option("--training/--no-training", help="Also time training steps of each preset.")
    ] = True,
    peers: Annotated[
        bool,
        typer.Option("--peers", help="Also time other vocoders; pip install 'gru-audio[bench]' brings them."),
    ] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Measure how fast this machine synthesizes and trains, stage by stage, and how fast it could be at most.

    Networks have random weights. All figures take turns, and medians are shown; all cases together take some
    minutes. The limit is the time that a core needs to read a sample's weights and table rows, or to multiply
    them, as measured here.

    **Examples**

        gru-audio bench --quick

        gru-audio bench --case voice-16k --engine int8 --no-training

        gru-audio bench --device cuda --case voice-16k

        gru-audio bench --peers --json > bench.json
    """
    # One core's figures need libraries that use one; they read this when they are imported.
    os.environ["OMP_NUM_THREADS"] = "1"
    from dataclasses import asdict

    from gru_audio.bench.cases import find_cases, find_engines
    from gru_audio.extras import require

    require("train", "bench", "torch")
    cases, engines = find_cases(case or []), find_engines(engine or [])
    from gru_audio.bench.run import BenchPlan, run_bench  # now, as it imports torch, which takes seconds

    plan = BenchPlan(
        cases=cases,
        engines=engines,
        seconds=seconds or (_QUICK_SECONDS if quick else BenchPlan.seconds),
        turns=turns or (_QUICK_TURNS if quick else BenchPlan.turns),
        training=training,
        peers=peers,
        device=device,
    )
    with progress_bar("measuring", quiet=quiet) as progress:
        report = run_bench(plan, progress)
    if json:
        print_json({"seconds": plan.seconds, "turns": plan.turns, **asdict(report)})
    else:
        print_report(report)
    for package in report.missing_peers:
        note(
            f"{package} is not installed and was left out; pip install 'gru-audio[bench]' brings it",
            quiet=quiet,
        )


def print_report(report: "Report") -> None:
    """Tell what was measured, as text."""
    machine, limits = report.machine, report.limits
    load = "unknown" if machine.load is None else f"{machine.load:.1f}"
    typer.echo(
        f"{machine.cpu} ({machine.instructions}), {machine.cores} cores, load {load} before; "
        f"Python {machine.python}, torch {machine.torch or 'not installed'}, gru-audio {machine.gru_audio}"
    )
    if report.device != "cpu":
        typer.echo(f"engine torch and training: {report.device}; the others one core and more")
    for choice in dict.fromkeys(report.engine_choice.values()):
        names = [name for name, its_choice in report.engine_choice.items() if its_choice == choice]
        typer.echo(f"engine auto for {', '.join(names)}: {choice}")
    print_table(*_synthesis_table(report))
    print_table(*_stage_table(report))
    if report.training:
        print_table(*_training_table(report))
    read = (f"{point.bytes_per_s / 1e9:.0f} of {_size(point.working_set_bytes)}" for point in limits.read)
    typer.echo(f"\none core reads, in GB/s: {', '.join(read)}")
    typer.echo(
        f"one core multiplies and adds, in G/s: {limits.float32_macs_per_s / 1e9:.0f} in float32, "
        f"{limits.int8_macs_per_s / 1e9:.0f} in int8 ({limits.int8_instructions})"
    )


def _synthesis_table(report: "Report") -> tuple[list[str], list[list[str]]]:
    cores = report.machine.cores
    head = ["synthesis", "engine", "samples/s", "x real time", "µs/sample", "limit µs", "by", "of limit"]
    head += ["corrected x", f"{cores} streams x", "gain", "8 clips x"]
    together = max((speed.n_most for speed in report.synthesis), default=0)
    head += [f"{together:,} clips x"] if together else []
    rows = []
    for speed in report.synthesis:
        one, bound = speed.one_stream, speed.bound
        row = [speed.case, speed.engine, f"{one.samples_per_s:,.0f}", f"{one.times_real_time:.2f}"]
        row += [f"{one.us_per_sample:.2f}"]
        if bound is None:
            row += ["-"] * 3
        else:
            row += [f"{bound.us_per_sample:.3f}", bound.limited_by]
            row += [f"{100 * bound.us_per_sample / one.us_per_sample:.0f} %"]
        corrected = 1e6 / (one.us_per_sample + speed.correction) / speed.sample_rate_hz
        row += [f"{corrected:.2f}"]
        each = "-" if speed.each_core is None else f"{speed.each_core.times_real_time:.2f}"
        gain = "-" if speed.times_one_stream is None else f"{speed.times_one_stream:.2f}"
        row += [each, gain, f"{speed.many_streams.times_real_time:.2f}"]
        most = "-" if speed.most_streams is None else f"{speed.most_streams.times_real_time:.0f}"
        rows.append([*row, most] if together else row)
    for peer in report.peers:
        one = peer.one_stream
        row = [peer.peer, "", f"{one.samples_per_s:,.0f}", f"{one.times_real_time:.2f}"]
        rows.append([*row, f"{one.us_per_sample:.2f}", *["-"] * (7 + bool(together))])
    return head, rows


def _stage_table(report: "Report") -> tuple[list[str], list[list[str]]]:
    stages = list(dict.fromkeys(stage for speed in report.synthesis for stage in speed.stages))
    rows = []
    for speed in report.synthesis:
        shown = [f"{speed.stages[stage]:.3f}" if stage in speed.stages else "-" for stage in stages]
        rows.append([speed.case, speed.engine, *shown])
    return ["µs a sample", "engine", *stages], rows


def _training_table(report: "Report") -> tuple[list[str], list[list[str]]]:
    rows = []
    for trained in report.training:
        batch = f"{trained.crops_per_step} x {trained.crop_samples}"
        speed = trained.speed
        row = [trained.case, trained.precision, batch]
        rows.append([*row, f"{speed.samples_per_s:,.0f}", f"{speed.times_real_time:.2f}"])
    return ["training", "precision", "batch", "samples/s", "x real time"], rows


def _size(n_bytes: int) -> str:
    unit = (n_bytes.bit_length() - 1) // 10
    return f"{n_bytes >> 10 * unit} {_SIZES[unit]}"
