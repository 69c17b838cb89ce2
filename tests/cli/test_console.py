"""What the commands show while they work: a bar on a terminal, nothing in a pipe."""

import os
import pty
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from gru_audio import __version__
from gru_audio.cli import COMMANDS, app
from gru_audio.cli.console import progress_bar
from gru_audio.progress import Progress

SCRIPT = """
from gru_audio.cli.console import progress_bar
from gru_audio.progress import Progress
with progress_bar("working", quiet={quiet}) as progress:
    progress(Progress(1, 2, {{"speed": "fast"}}))
"""


def shown_on_terminal(script: str) -> bytes:
    ours, terminal = pty.openpty()
    environment = {**os.environ, "COLUMNS": "100", "TERM": "xterm"}
    with subprocess.Popen([sys.executable, "-c", script], stderr=terminal, env=environment) as process:
        os.close(terminal)
        shown = b""
        with pytest.raises(OSError, match="Input/output error"):  # how a terminal ends
            while True:
                shown += os.read(ours, 65_536)
    os.close(ours)
    assert process.returncode == 0
    return shown


def test_a_terminal_shows_a_bar() -> None:
    shown = shown_on_terminal(SCRIPT.format(quiet=False))
    for part in (b"working", b"50%", b"speed fast"):
        assert part in shown


def test_quiet_shows_nothing_on_a_terminal() -> None:
    assert shown_on_terminal(SCRIPT.format(quiet=True)) == b""


def test_a_pipe_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("working") as progress:
        progress(Progress(1, 2))
    assert capsys.readouterr() == ("", "")


def test_the_version_and_the_commands_are_told() -> None:
    told = CliRunner().invoke(app, ["--version"])
    assert (told.exit_code, told.stdout) == (0, f"gru-audio {__version__}\n")
    alone = CliRunner().invoke(app, [])
    assert alone.exit_code == 0
    assert "synthesize" in alone.stdout


ONLY_WHERE_GIVEN = {"overrides", "init", "input_format", "mel"}
"""Options that have no default: without them something is not done. So it is with any `--output`."""


@pytest.mark.parametrize("command", COMMANDS)
def test_every_default_is_shown(command: str) -> None:
    """By Typer, so that no help text need say it."""
    context = typer.Context(typer.main.get_command(app))
    for option in context.command.get_command(context, command).params:  # type: ignore[attr-defined]
        if (
            option.default is None
            and option.name not in ONLY_WHERE_GIVEN | {"output"}
            and not option.required
        ):
            assert option.show_default, option.name
        assert "if absent" not in (option.help or "")
