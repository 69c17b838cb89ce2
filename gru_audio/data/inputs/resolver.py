"""Where the recordings lie that a listing names."""

import os
from pathlib import Path, PurePosixPath

from gru_audio.data.inputs.found import Found, numbered, stamp_of
from gru_audio.data.inputs.speakers import SpeakerRule

_FOLDERS = ("", "wavs", "wav", "clips", "audio", "..", "../wavs", "../..")
_SUFFIXES = ("", ".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".WAV")


class Resolver:
    """Finds what a listing in a folder names: there, in a folder beside it, or from where the program runs."""

    def __init__(self, folder: Path, rule: SpeakerRule) -> None:
        self._folder, self._rule = folder.resolve(), rule
        bases = [os.path.normpath(self._folder / name) for name in _FOLDERS] + [os.fspath(Path.cwd())]
        self._ways = [(base, suffix) for suffix in _SUFFIXES for base in dict.fromkeys(bases)]

    def exists(self, name: str) -> bool:
        """Whether a listing's name leads to a file."""
        return self._find(name) is not None

    def found(
        self,
        name: str,
        index: int,
        speaker: str = "",
        *,
        identity: str = "",
        start_s: float = 0.0,
        stop_s: float | None = None,
    ) -> Found:
        """The recording, whether or not it is there: a missing one is told when it is to be read.

        Args:
            name: of the file, as the listing has it.
            index: of the recording in the listing.
            speaker: as the listing has it; if empty, the folders tell.
            identity: the listing's own name for the recording; may be empty.
            start_s: where the stretch begins.
            stop_s: where it ends; None at the recording's end.

        Raises:
            DatasetError: the user's rule for speakers does not fit the path.
        """
        path = Path(self._find(name) or self._first_way(name))
        relative = self._relative(path)
        if not speaker:
            speaker = self._rule.speaker(PurePosixPath(relative), self._folder.name)
        size, mtime = stamp_of(path)
        return Found(
            path, relative, speaker, size, mtime, numbered(index),
            identity=identity, start_s=start_s, stop_s=stop_s,
        )  # fmt: skip

    def _find(self, name: str) -> str | None:
        if not name.strip():
            return None
        names = (name,) if "\\" not in name else (name, name.replace("\\", "/"))
        for spelt in names:
            for number, (base, suffix) in enumerate(self._ways):
                path = os.path.join(base, spelt + suffix)  # noqa: PTH118 - a million names, and Path is slow
                if os.path.isfile(path):  # noqa: PTH113
                    self._ways.insert(0, self._ways.pop(number))  # the others lie the same way, most likely
                    return os.path.normpath(path)
        return None

    def _first_way(self, name: str) -> str:
        base, suffix = self._ways[0]
        return os.path.normpath(os.path.join(base, name + suffix))  # noqa: PTH118

    def _relative(self, path: Path) -> str:
        if path.is_relative_to(self._folder):
            return path.relative_to(self._folder).as_posix()
        return path.relative_to(path.anchor).as_posix()
