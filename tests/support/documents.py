"""The JSON document of a file of ours, as a test looks at it."""

from pathlib import Path
from typing import Any

from gru_audio.voice.tensor_file import open_tensor_file


def document_of(path: Path) -> dict[str, Any]:
    """Without its tensors, and not compared with its digest."""
    with open_tensor_file(path) as file:
        return file.document
