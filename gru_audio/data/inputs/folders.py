"""A folder of audio files: what its own metadata.csv lists, as in LJSpeech, or else all that lies in it."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path, PurePosixPath

from gru_audio.data.inputs.found import Found, stamp_of
from gru_audio.data.inputs.resolver import Resolver
from gru_audio.data.inputs.speakers import SpeakerRule, first_microphone
from gru_audio.data.inputs.tables import find_form, read_rows
from gru_audio.errors import DatasetError
from gru_audio.folders import place_of, walk
from gru_audio.signal.audio_file.reading import AUDIO_SUFFIXES
from gru_audio.voice.run_folder import is_made_by_run

_LISTING = "metadata.csv"
_TRIED_ROWS = 1_000


class FolderInput:
    """Finds a folder's recordings.

    Attributes:
        ignored: once all are found, other files that lie in it: no audio, not listed, second microphones.
        notes: how a listing was understood.
    """

    def __init__(self, folder: Path, rule: SpeakerRule, input_format: str | None) -> None:
        self._folder, self._rule, self._format = folder, rule, input_format
        self.ignored, self.notes = 0, list[str]()

    def found(self, on_error: Callable[[OSError], None]) -> Iterator[Found]:
        """The recordings in any order; each says where it belongs.

        Args:
            on_error: told of each folder that cannot be searched.

        Raises:
            DatasetError: the folder has no audio; says what it has.
        """
        listing = self._folder / _LISTING
        if self._is_listed(listing):
            yield from self._listed(listing, on_error)
        else:
            yield from self._walked(on_error)

    def _is_listed(self, listing: Path) -> bool:
        """Whether a metadata.csv lists recordings that are there, in LJSpeech's form or with names of columns."""
        if not listing.is_file():
            return False
        resolver = Resolver(self._folder, self._rule)
        try:
            form = find_form(listing, resolver.exists)
            first = list(islice(read_rows(listing, form), _TRIED_ROWS))
        except DatasetError:
            return False  # some other program's; the files themselves are taken
        return (form.delimiter == "|" or form.has_header) and any(resolver.exists(row.audio) for row in first)

    def _listed(self, listing: Path, on_error: Callable[[OSError], None]) -> Iterator[Found]:
        resolver, present = Resolver(self._folder, self._rule), 0
        form = find_form(listing, resolver.exists)
        self.notes.append(f"{listing}: {form.told()}")
        for index, row in enumerate(read_rows(listing, form)):
            one = resolver.found(row.audio, index, row.speaker)
            present += one.size_bytes >= 0
            yield one
        n_files = sum(1 for _ in walk(self._folder, ordered=False, on_error=on_error))
        self.ignored = max(0, n_files - present)

    def _walked(self, on_error: Callable[[OSError], None]) -> Iterator[Found]:
        suffixes, others, n_audio = self._suffixes(), Counter[str](), 0
        place, is_made = self._folder, False  # whose files come one after the other
        for path in walk(self._folder, ordered=False, on_error=on_error):
            if path.parent != place:
                place, is_made = path.parent, path.parent != self._folder and is_made_by_run(path.parent)
                if is_made:
                    self.notes.append(
                        f"{place.parent}: a training run; the audio that it made is passed over"
                    )
            if is_made:
                others["of runs"] += 1
                continue
            suffix = path.suffix.lower()
            relative = PurePosixPath(path.relative_to(self._folder))
            if suffix not in suffixes or self._is_second(relative):
                others[suffix or "no suffix"] += 1
                continue
            n_audio += 1
            speaker = self._rule.speaker(relative, self._folder.name)
            yield Found(path, str(relative), speaker, *stamp_of(path), place_of(str(relative)))
        self.ignored = others.total()
        if not n_audio:
            raise DatasetError(self._no_audio(others, suffixes))

    def _suffixes(self) -> Iterable[str]:
        """The suffixes of what is taken: of the format that is named, where the folder has such files."""
        own = f".{self._format}"
        if self._format is not None and any(
            path.suffix.lower() == own for path in walk(self._folder, ordered=False)
        ):
            return (own,)
        return AUDIO_SUFFIXES

    def _is_second(self, relative: PurePosixPath) -> bool:
        """VCTK has most sentences from two microphones at once; one is enough."""
        first = first_microphone(relative)
        return first is not None and os.path.isfile(self._folder / first)  # noqa: PTH113 - of a million files

    def _no_audio(self, others: Counter[str], suffixes: Iterable[str]) -> str:
        found = ", ".join(f"{count} × {suffix}" for suffix, count in others.most_common(5)) or "no files"
        archives = others.keys() & {".tar", ".tgz", ".parquet", ".arrow"}
        way = (
            "give the folder as --manifest"
            if archives
            else "give files by name where their suffix is another"
        )
        return (
            f"{self._folder}: no audio files; found {found}; looked for {' '.join(sorted(suffixes))}; {way}"
        )
