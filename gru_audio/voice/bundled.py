"""The bundled voices, by name; nothing heavy is imported, so that the command line can name them."""

from pathlib import Path

from gru_audio.errors import CheckpointError
from gru_audio.files import is_folder, why_no_file
from gru_audio.voice.run_folder import VOICE_FILE

DEFAULT_VOICE = "debian-16k"
"""The voice that `load()` takes; see recipes/debian-voices."""

_FOLDER = Path(__file__).parent / "voices"


def bundled_voices() -> dict[str, Path]:
    """The files of the bundled voices, by their names."""
    return {path.stem: path for path in sorted(_FOLDER.glob("*.safetensors"))}


def voice_path(voice: str | Path) -> Path:
    """The file of a voice.

    Args:
        voice: a voice file; the folder of a run, which holds one; or a bundled voice's name.

    Raises:
        CheckpointError: there is none of these, or the run has no voice yet.
    """
    path, bundled = Path(voice), bundled_voices()
    if is_folder(path):
        if not (path / VOICE_FILE).exists():
            raise CheckpointError(
                f"{path}: holds no {VOICE_FILE}; train writes it at the first validation, or name a file"
            )
        return path / VOICE_FILE
    reason = why_no_file(path)
    if reason == "no such file" and str(voice) in bundled:
        return bundled[str(voice)]
    if reason is not None:
        raise CheckpointError(
            f"{path}: {reason}; check the path, or name a bundled voice: {', '.join(bundled)}"
        )
    return path
