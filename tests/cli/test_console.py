"""What the commands show while they work: a bar on a terminal, nothing in a pipe."""

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable

import pytest
import typer
from typer.testing import CliRunner

from gru_audio import __version__
from gru_audio.cli import COMMANDS, app
from gru_audio.cli.console import error_line, note, print_json, print_rows, print_table, progress_bar, say
from gru_audio.progress import Progress

SCRIPT = """
from gru_audio.cli.console import progress_bar
from gru_audio.progress import Progress
with progress_bar("working", quiet={quiet}) as progress:
    progress(Progress(1, 2, {{"speed": "fast"}}))
"""


def shown_on_terminal(script: str, stream: str = "stderr", columns: int = 100) -> bytes:
    ours, terminal = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm"}
    out, err = (terminal if stream == name else None for name in ("stdout", "stderr"))
    with subprocess.Popen([sys.executable, "-c", script], stdout=out, stderr=err, env=environment) as process:
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


NASTY = "caf\udce9/\x1b[31m[red]a\nb[/red]\x9b2J.wav"
SHOWN = "caf\\xe9/\\x1b[31m[red]a b[/red]\\x9b2J.wav"


@pytest.mark.parametrize("print_line", [say, note, error_line])
def test_a_name_is_shown_and_acts_on_nothing(
    print_line: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    print_line(f"{NASTY}: 3 s")
    said = capsys.readouterr()
    assert (said.out + said.err).removeprefix("error: ") == f"{SHOWN}: 3 s\n"


def test_rows_and_tables_show_names(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows({"file": NASTY})
    print_table(["name", "n"], [[NASTY, "3"]])
    assert capsys.readouterr().out == f"file  {SHOWN}\n\n{'name':<{len(SHOWN)}}  n\n{SHOWN}  3\n"


def test_json_keeps_every_name_and_no_escape(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"file": NASTY, "ünï": "日本"})
    out = capsys.readouterr().out
    assert all(letter.isprintable() or letter == "\n" for letter in out)
    assert json.loads(out) == {"file": NASTY, "ünï": "日本"}
    assert "日本" in out


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_letters_that_the_terminal_does_not_have(encoding: str) -> None:
    script = f"from gru_audio.cli.console import say; say({'ü日本: 3 s'!a})"
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, env=environment, check=True)
    assert done.stdout == "ü日本: 3 s\n".encode(encoding, errors="backslashreplace")


def test_markup_in_a_table_on_a_terminal_is_text() -> None:
    script = "from gru_audio.cli.console import print_table; print_table(['name'], [['[red]a[/red]']])"
    assert b"[red]a[/red]" in shown_on_terminal(script, "stdout")


TABLE = """
from gru_audio.cli.console import print_table
rows = [[name, *(f"{figure:.3f}" for figure in range(14))] for name in ("voice, mean", "日本, griffin-lim")]
print_table(["system", *(f"measure {i:02}" for i in range(14))], rows)
"""


@pytest.mark.parametrize("columns", [20, 30, 80, 300])
def test_a_table_on_a_narrow_terminal_is_whole(columns: int) -> None:
    """The columns that have no room follow below; nothing is cut."""
    shown = re.sub(r"\x1b\[\d*m", "", shown_on_terminal(TABLE, "stdout", columns).decode())
    for figure in range(14):
        assert shown.count(f" measure {figure:02}") == 1
        assert shown.count(f" {figure}.000") == 2
    assert shown.count("voice, mean") == {20: 14, 30: 14, 80: 3, 300: 1}[columns]
    if columns >= 80:
        assert max(map(len, shown.splitlines())) <= columns


def test_rows_on_a_narrow_terminal_are_whole() -> None:
    script = f"from gru_audio.cli.console import print_rows; print_rows({{'what is it': {('word ' * 9).strip()!r}}})"
    assert shown_on_terminal(script, "stdout", 25) == b"what is it " + b" word" * 9 + b"\r\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_help_on_a_terminal_that_lacks_letters(encoding: str) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    command = [sys.executable, "-m", "gru_audio", "prep", "--help"]
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"[SOURCE\\u2026]" in done.stdout
