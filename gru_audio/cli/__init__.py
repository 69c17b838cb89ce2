"""The command line: thin commands over the library.

Each command parses its arguments, calls one library function and shows the result. Nothing heavy is
imported here or at the head of a command's module, so that `--help` is quick.
"""

import contextlib
import errno
import gc
import importlib
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from gru_audio import __version__
from gru_audio.cli.console import error_line, let_go, note
from gru_audio.cli.stopping import catch_signals, stop_behind, stop_code
from gru_audio.errors import GruAudioError, with_what_was_got

COMMANDS = ("prep", "train", "synthesize", "preview", "evaluate", "info", "voices", "mel", "export", "bench")

_WRONG_USE = 2
_STDOUT = 1
_USAGE_ERROR: Any = typer.BadParameter.__base__  # of click, which newer versions of Typer hold inside
_SYSTEM = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM),
        *(errno.EMFILE, errno.ENFILE, errno.EIO, errno.ENAMETOOLONG, errno.ELOOP),
    }
)
"""Errors of the machine or of a name, not of this program, wherever they come up."""


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"gru-audio {__version__}")
        raise typer.Exit


_FREE_TEXT = frozenset({"licence", "source_note"})
"""Parameters that may be empty."""


class _Commands(TyperGroup):
    """The commands; a wrong use, or a signal, ends any of them with one line."""

    def get_command(self, *args: Any, **kwargs: Any) -> Any:
        """A command that takes no empty value: as a path it would be the folder in which it was typed."""
        command = super().get_command(*args, **kwargs)
        for parameter in command.params if command else ():
            _check_value(parameter)
        return command

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run; Typer would draw a box around a usage error, and break its lines as wide as the terminal is."""
        if not kwargs.setdefault("standalone_mode", True):
            return super().main(*args, **kwargs)
        try:
            code = super().main(*args, **{**kwargs, "standalone_mode": False})
        except _USAGE_ERROR as error:
            told = f" ({error.ctx.command_path} --help tells more)" if error.ctx else ""
            error_line(f"{error.format_message()}{told}")
            sys.exit(_WRONG_USE)
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        if not gc.isenabled():
            gc.freeze()  # what was imported until now stays
            gc.enable()
        _require_place()
        with _stopping():
            return super().invoke(ctx)

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Read the command line, for which Typer imports much."""
        with _stopping():
            return super().make_context(*args, **kwargs)


def _require_place() -> None:
    """Refuse a folder that is gone: relative names lead nowhere there, and torch's libraries end the process."""
    try:
        os.getcwd()  # noqa: PTH109 - pathlib would be imported for nothing
    except FileNotFoundError:
        _fail("the folder in which this was typed is gone; change to another with cd")


def _check_value(parameter: Any) -> None:
    """Have a parameter of click told of a value that is empty, most often a shell's variable that is not set.

    And have what it says of a bad value tell the value, which the words of newer versions of Typer leave out.
    """
    process = parameter.process_value

    def checked(context: Any, value: Any) -> Any:
        is_empty = "" in (value if isinstance(value, list | tuple) else (value,))
        if is_empty and parameter.name not in _FREE_TEXT:
            raise typer.BadParameter("is empty; give a value, or leave it out", context, parameter)
        try:
            return process(context, value)
        except typer.BadParameter as error:
            validation: Any = error.__cause__  # pydantic's, of which older versions of Typer know nothing
            if hasattr(validation, "errors"):
                error.message = with_what_was_got(error.message, validation.errors()[0]["input"])
            raise

    parameter.process_value = checked


@contextlib.contextmanager
def _stopping() -> Iterator[None]:
    """Let a signal end the command with one line and its exit code."""
    try:
        yield
    except (KeyboardInterrupt, SystemError) as error:
        stop = stop_behind(error)
        if stop is None:
            raise
        note("stopped")
        raise typer.Exit(stop_code(stop)) from None


def _common(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version and stop.", is_eager=True, callback=_show_version),
    ] = False,
) -> None:
    """A GRU vocoder: speech one sample at a time from a log-mel spectrogram."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def make_app(commands: Sequence[str] = COMMANDS, *, only_listed: bool = False) -> typer.Typer:
    """The command line.

    Args:
        commands: some of the commands: each is the function of the name of its module.
        only_listed: they are there for the list of commands alone, without their options.
    """
    app = typer.Typer(
        name="gru-audio",
        cls=_Commands,
        pretty_exceptions_enable=False,
        add_completion=True,
        rich_markup_mode="markdown",
    )
    app.callback(invoke_without_command=True)(_common)
    for name in commands:
        command = getattr(importlib.import_module(f"gru_audio.cli.{name}"), name)
        app.command()(_without_options(command) if only_listed else command)
    return app


def _without_options(command: Callable[..., None]) -> Callable[[], None]:
    """A function of the same name and docstring: all options of all commands take a tenth of the help's time."""

    def listed() -> None: ...

    listed.__name__, listed.__doc__ = command.__name__, command.__doc__
    return listed


def __getattr__(name: str) -> Any:
    """`app` has all commands."""
    if name != "app":
        raise AttributeError(f"module 'gru_audio.cli' has no attribute '{name}'")
    return make_app()


def main() -> None:
    """Run the command line; every error a user can cause is one line on stderr and exit code 1."""
    catch_signals()
    for stream in (sys.stdout, sys.stderr):
        # Typer and Rich print letters that not every encoding has.
        if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower() not in ("utf-8", "utf8"):
            stream.reconfigure(errors="backslashreplace")
    try:
        # The others' modules and options would take a tenth of a short command's time.
        make_app(
            [name for name in sys.argv[1:2] if name in COMMANDS] or COMMANDS,
            only_listed=sys.argv[1:] in ([], ["--help"]) and not _is_completion(),
        )()
    except GruAudioError as error:
        _fail(str(error))
    except MemoryError:
        _fail("not enough memory; close other programs, or work on less at once")
    except OSError as error:
        if error.errno not in _SYSTEM:
            raise
        from gru_audio.files import mend_of

        let_go(_STDOUT)
        _fail(f"{error.filename or 'cannot go on'}: {error.strerror}; {mend_of(error)}")


def _is_completion() -> bool:
    """Whether a shell asks what may come next; it tells the words in variables, not as arguments."""
    return any(name.endswith("_COMPLETE") for name in os.environ)


def _fail(message: str) -> NoReturn:
    error_line(message)
    sys.exit(1)
