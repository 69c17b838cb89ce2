"""`gru-audio export`: a voice for products without Python."""

from pathlib import Path
from typing import Annotated

from gru_audio.cli.console import note, print_json
from gru_audio.cli.options import Json, Quiet, VoiceName, output_option
from gru_audio.voice.bundled import DEFAULT_VOICE


def export(
    voice: VoiceName = DEFAULT_VOICE,
    output: Annotated[Path, output_option("FILE", "The file to write.", True)] = Path("voice.gru"),
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Write a voice as one file for the C library and the browser, which use it without unpacking it.

    It has the int8 engine's weights and all tables; `gru_audio/native/gru_audio.h` is the C interface.

    **Examples**

        gru-audio export -o voice.gru

        gru-audio export --voice runs/mine -o mine.gru
    """
    from gru_audio.synthesis.int8.voice_file import export_voice

    n_bytes = export_voice(voice, output)
    if json:
        print_json({"path": str(output), "bytes": n_bytes})
    note(f"{output}: {n_bytes / 1e6:.1f} MB", quiet=quiet)
