"""Finding the recordings of a corpus, with each clip's name and speaker, however they are stored."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from gru_audio.data.inputs.catalogue import Catalogue, Source
from gru_audio.data.inputs.folders import FolderInput
from gru_audio.data.inputs.found import Found, numbered, stamp_of
from gru_audio.data.inputs.manifests import read_manifest
from gru_audio.data.inputs.mels import GivenMels
from gru_audio.data.inputs.speakers import SpeakerRule
from gru_audio.errors import DatasetError
from gru_audio.files import is_folder, why_neither
from gru_audio.folders import why_not_searched
from gru_audio.names import readable

__all__ = ["Source", "SourcePlan", "SpeakerRule", "plan_sources"]


@dataclass(frozen=True)
class SourcePlan:
    """What there is to prepare.

    Attributes:
        sources: the recordings in the dataset's order; they lie on disk and can be gone through again and again.
        ignored: how many other files lie in the folders: no audio, not listed, second microphones.
        unreadable: folders that could not be searched, each with the reason.
        notes: how listings were understood.
        digest: tells whether two plans were given the same recordings.
        known: recordings that were passed over, since the dataset that is added to has them.
    """

    sources: Catalogue
    ignored: int
    unreadable: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    digest: str
    known: int


def plan_sources(
    sources: Sequence[Path],
    input_format: str | None = None,
    *,
    manifests: Sequence[Path] = (),
    speakers: SpeakerRule | None = None,
    mels: Path | None = None,
    known: Callable[[str], Iterable[tuple[bytes, str]]] | None = None,
) -> SourcePlan:
    """Find the recordings in files, folders, listings and archives.

    Folders are searched to their depth in a stable order; names that begin with a dot are passed over.
    A clip's name is its path relative to the source, without the suffix. Where that would give two clips
    one name, the suffix stays or the source folder's name goes before; at last a number follows.

    Args:
        sources: files and folders.
        input_format: ffmpeg's name of the format that all files have. Where a folder has files with that
            suffix, only they are taken.
        manifests: listings and archives; see `read_manifest`.
        speakers: how speakers are told; by default by what folders look like and listings say.
        mels: a folder of mels that were made of the recordings; see `GivenMels`.
        known: given the plan's digest, what a dataset has already and is passed over: the key of a source and the
            name of a clip of it, for each clip.

    Raises:
        DatasetError: a source is missing, a folder has no audio, or a listing cannot be read.
    """
    catalogue, rule = Catalogue(), speakers or SpeakerRule()
    given = GivenMels(mels) if mels is not None else None
    unreadable, notes, ignored = dict[str, str](), list[str](), 0

    def note_unreadable(error: OSError) -> None:
        unreadable[readable(error.filename)] = why_not_searched(error)

    for source in map(Path, sources):
        if (reason := why_neither(source)) is not None:
            raise DatasetError(f"{source}: {reason}; check the path")
        if not is_folder(source):
            folder = source.parent.resolve()
            catalogue.add(folder, [_file(folder / source.name, rule)], given)
            continue
        folder = source.resolve()
        folder_input = FolderInput(folder, rule, input_format)
        try:
            catalogue.add(folder, folder_input.found(note_unreadable), given)
        except DatasetError:
            for place, reason in unreadable.items():
                raise DatasetError(f"{place}: {reason}") from None
            raise
        ignored += folder_input.ignored
        notes += folder_input.notes
    for manifest in map(Path, manifests):
        before = len(catalogue)
        catalogue.add(Path(os.path.realpath(manifest)), read_manifest(manifest, rule, notes), given)
        if len(catalogue) == before:
            raise DatasetError(f"{manifest}: names no recording that is not given already; check the file")
    if mels is not None:
        n_mels = catalogue.n_mels()
        if not n_mels:
            raise DatasetError(
                f"{mels}: no mel has the name of a recording; name the mel of NAME.wav NAME.npy"
            )
        notes.append(f"{mels}: mels for {n_mels} of {len(catalogue)} recordings")
    digest = catalogue.digest()
    n_known = catalogue.drop_known(known(digest)) if known else 0
    catalogue.name_all()
    return SourcePlan(catalogue, ignored, tuple(unreadable.items()), tuple(notes), digest, n_known)


def _file(path: Path, rule: SpeakerRule) -> Found:
    """A file that was given by itself counts as its folder's."""
    speaker = rule.speaker(PurePosixPath(path.name), path.parent.name)
    return Found(path, path.name, speaker, *stamp_of(path), numbered(0))
