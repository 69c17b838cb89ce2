"""The options that several commands have: in all of them the same letter, meaning and words."""

from pathlib import Path
from typing import Annotated, Any

import typer

STANDARD = Path("-")  # stdin or stdout

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress and no notes; errors remain.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]

_VOICE = "a bundled voice's name (`gru-audio voices` lists them), a voice file, or a run's folder."
VoiceName = Annotated[str, typer.Option("--voice", "-v", metavar="VOICE", help=f"What speaks: {_VOICE}")]
InitVoice = Annotated[
    str | None, typer.Option("--init", metavar="VOICE", help=f"What training begins from: {_VOICE}")
]
EngineName = Annotated[
    str, typer.Option("--engine", help="int8 or float32 (compiled, for the CPU), torch, or auto.")
]
DeviceName = Annotated[
    str, typer.Option("--device", help="Where torch computes: cpu, cuda, cuda:1, …, or auto.")
]
Cluster = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="ADDRESS",
        help="A Dask scheduler whose workers do it, as in tcp://10.0.0.1:8786; see docs/cluster.md.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same samples.")]
Temperature = Annotated[
    float | None,
    typer.Option("--temperature", help="Below 1 less noisy, above 1 more.", show_default="the voice's own"),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="TABLE.KEY=VALUE",
        help="Change one setting, as in model.gru_size=256; may be repeated.",
    ),
]


def config_option(default: str | bool = True) -> Any:
    """`-c`, the settings; `default` says in words which, where that depends on other options."""
    return typer.Option(
        "--config",
        "-c",
        metavar="CONFIG",
        help="Settings: a preset's name, a TOML file, or a run.",
        show_default=default,
    )


def output_option(metavar: str, help: str, default: str | bool = False, *, takes_stdout: bool = False) -> Any:
    """`-o`, where the result is written; `takes_stdout` where that may be -."""
    check = None if takes_stdout else _require_no_stdout
    return typer.Option(
        "--output", "-o", metavar=metavar, help=help, show_default=default, callback=check, readable=False
    )


def input_argument(metavar: str, help: str) -> Any:
    """Files and folders to read; whether they can be is told as of any other."""
    return typer.Argument(metavar=metavar, help=help, readable=False)


def _require_no_stdout(output: Path | None) -> Path | None:
    if output == STANDARD:
        raise typer.BadParameter("stdout is taken by synthesize - alone; give a path")
    return output


def jobs_option(what: str) -> Any:
    """`-j`, how many threads or processes work; `what` says which, and on what."""
    return typer.Option("--jobs", "-j", min=1, max=1024, help=what, show_default="one for each core")


def mel_option(help: str) -> Any:
    """`--mel`, the contract of a mel."""
    return typer.Option("--mel", metavar="CONTRACT", help=help)
