"""The command line: thin commands over the library.

Each command parses its arguments, calls one library function and shows the result. Nothing heavy is
imported here or at the head of a command's module, so that `--help` is quick.
"""

import sys

import typer

from gru_audio.cli import prep, preview, synthesize, train
from gru_audio.errors import GruAudioError

app = typer.Typer(
    name="gru-audio",
    help="A GRU vocoder: speech one sample at a time from a log-mel spectrogram.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
    rich_markup_mode="markdown",
)
app.command()(prep.prep)
app.command()(train.train)
app.command()(synthesize.synthesize)
app.command()(preview.preview)


def main() -> None:
    """Run the command line; every error a user can cause is one line on stderr and exit code 1."""
    try:
        app()
    except GruAudioError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
