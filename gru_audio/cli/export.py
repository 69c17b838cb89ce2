"""`gru-audio export`: a voice for products without Python."""

from pathlib import Path
from typing import Annotated

import typer

from gru_audio.cli.console import Json, Quiet, note, print_json


def export(
    voice: Annotated[
        Path | None,
        typer.Argument(
            metavar="[VOICE]",
            help="A voice, or a run's folder; if absent the bundled voice.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="The file to write.")] = Path("voice.gru"),
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Write a voice as one file that the C library and the browser read as it lies.

    It has the int8 engine's weights and all tables; `gru_audio/native/gru_audio.h` is the C interface.

    **Examples**

        gru-audio export -o voice.gru

        gru-audio export runs/mine -o mine.gru
    """
    from gru_audio.synthesis.int8.voice_file import export_voice
    from gru_audio.voice.voice import BUNDLED_VOICE

    n_bytes = export_voice(voice or BUNDLED_VOICE, output)
    if json:
        print_json({"path": str(output), "bytes": n_bytes})
    note(f"{output}: {n_bytes / 1e6:.1f} MB", quiet=quiet)
