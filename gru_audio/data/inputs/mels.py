"""Mels that someone else made of the recordings, paired with them by name.

A mel belongs to the recording of the same path below its folder, or else of the same file name, but for what makers of
mels put before or behind it (`mel-NAME.npy`, `NAME-feats.npy`, `NAME.wav.npy`).
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from gru_audio.data.inputs.lookup import Lookup
from gru_audio.errors import DatasetError
from gru_audio.folders import refuse_unsearched, walk
from gru_audio.signal.mel_file import MEL_SUFFIXES

_AFFIXES = re.compile(r"^mels?[-_.]|[-_.](?:mels?|feats?|spec)$|\.(?:wav|flac|mp3|ogg|opus|m4a)$")


class GivenMels:
    """The mels of a folder; their names lie on disk."""

    def __init__(self, folder: Path) -> None:
        """Look through a folder.

        Raises:
            DatasetError: it is no folder, has no mels, or cannot be searched.
        """
        if not folder.is_dir():
            raise DatasetError(f"{folder}: no such folder of mels; check the path")
        self._folder = folder.resolve()
        self._by_path = Lookup((_plain(relative), str(relative)) for relative in self._files())
        self._by_name = Lookup(
            (_plain(relative).rpartition("/")[2], str(relative)) for relative in self._files()
        )
        if not self._by_path:
            raise DatasetError(f"{folder}: has no mels; looked for {', '.join(sorted(MEL_SUFFIXES))}")

    def of(self, *names: str) -> Path | None:
        """The mel of a recording by one of its names; None where there is none.

        Args:
            names: paths below its input, or names of its own; the suffix does not matter.

        Raises:
            DatasetError: several files of one name could be meant.
        """
        plain = [_plain(PurePosixPath(name)) for name in names if name]
        found = next(filter(None, map(self._by_path.get, plain)), None)
        if found is None:
            for name in plain:
                last = name.rpartition("/")[2]
                if self._by_name.count(last) > 1:
                    raise DatasetError(
                        f"{self._folder}: several mels are named {last}; put them in folders as the recordings are"
                    )
                found = found or self._by_name.get(last)
        return None if found is None else self._folder / found

    def _files(self) -> Iterator[PurePosixPath]:
        for path in walk(self._folder, ordered=False, on_error=refuse_unsearched):
            if path.suffix.lower() in MEL_SUFFIXES:
                yield PurePosixPath(path.relative_to(self._folder))


def _plain(path: PurePosixPath) -> str:
    """A path without suffix, and without what makers of mels add."""
    stem, before = path.stem if path.suffix.lower() in MEL_SUFFIXES else path.name, None
    while stem != before:
        before, stem = stem, _AFFIXES.sub("", stem) or stem
    return str(path.with_name(stem))
