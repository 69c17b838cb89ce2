"""Who speaks, by where a file lies.

Known by looking: VCTK (wav48*/pNNN/), LibriTTS and LibriSpeech (SPEAKER/CHAPTER/), TIMIT (TRAIN/DR1/SPEAKER/).
Elsewhere the first folder that says something stands for a speaker; those that corpora have for order's sake
(`by_book/female/`, `wavs/`, `train/`, `it_IT/`) do not.
"""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from gru_audio.errors import DatasetError

_VCTK_SPEAKER = re.compile(r"[ps]\d+")
_SECOND_MICROPHONE = re.compile(r"_mic2$")

# fmt: off
_ORDER = frozenset({
    "wav", "wavs", "wave", "flac", "mp3", "ogg", "opus", "m4a", "aac", "audio", "audios", "sound", "sounds",
    "clip", "clips", "data", "corpus", "corpora", "dataset", "speech", "voice", "voices", "recording",
    "recordings", "raw", "segments", "utterances", "speaker", "speakers", "spk", "by_book", "by_speaker",
    "by_gender", "female", "male", "mix", "women", "men", "man", "woman", "f", "m", "train", "training", "dev",
    "test", "valid", "validation", "validated", "eval", "evaluation",
})
# fmt: on
_ORDER_PATTERNS = re.compile(
    r"""(?: (?: train | dev | test | valid | eval ) [-_. ] (?: clean | other | \d+ ) .*  # train-clean-100
      | (?: wav | flac | mp3 ) [-_ ]? \d+ .*                                           # wav48, wav24kHz16bit
      | \d+ [-_ ]? k(?:hz)?                                                            # 16k, 22khz
      | [a-z]{2,3} [-_] [A-Z]{2}                                                       # it_IT
      | DR[1-8]                                                                        # TIMIT's dialects
      | (?: 19 | 20 ) \d\d (?: [-_.] \d\d (?: [-_.] \d\d )? | \d{4} )                   # 2024-01-31
    )""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class SpeakerRule:
    """How speakers are told, where the user says it.

    Attributes:
        level: the folder that names the speaker: 1 is the first below the input, 0 the input itself, -1 the
            file's own folder.
        pattern: searched for in the path below the input; its group `speaker`, or its first, is the speaker.
    """

    level: int | None = None
    pattern: str | None = None

    def __post_init__(self) -> None:
        if self.level is not None and self.pattern is not None:
            raise DatasetError("the speaker's folder is given as a level and as a pattern; give one of them")
        if self.pattern is None:
            return
        try:
            groups = re.compile(self.pattern).groups
        except re.error as error:
            raise DatasetError(
                f"speaker pattern '{self.pattern}': no regular expression ({error}); mend it"
            ) from error
        if not groups:
            raise DatasetError(
                f"speaker pattern '{self.pattern}': has no group; put the speaker's part in parentheses"
            )

    def speaker(self, relative: PurePosixPath, root_name: str) -> str:
        """The speaker of a file at `relative` below an input of that name.

        Raises:
            DatasetError: the path has no such folder, or the pattern is not in it.
        """
        folders = relative.parts[:-1]
        if self.pattern is not None:
            return self._by_pattern(relative)
        if self.level is None:
            return speaker_of(relative, root_name)
        at = self.level - 1 if self.level > 0 else self.level
        if self.level == 0 or (self.level < 0 and -self.level == len(folders) + 1):
            return root_name
        if not -len(folders) <= at < len(folders):
            raise DatasetError(
                f"{relative}: lies {len(folders)} folders below the input, so that it has none at level "
                f"{self.level}; give another level, or a pattern"
            )
        return folders[at]

    def _by_pattern(self, relative: PurePosixPath) -> str:
        found = re.search(self.pattern or "", str(relative))
        speaker = found and (found.groupdict().get("speaker") or found.group(1))
        if not speaker:
            raise DatasetError(
                f"{relative}: speaker pattern '{self.pattern}' is not in it; mend it, or give a level"
            )
        return speaker


def speaker_of(relative: PurePosixPath, root_name: str) -> str:
    """The speaker by what the folders look like; the input's name where none says anything."""
    folders = relative.parts[:-1]
    last, before = ((root_name, *folders)[-1], ("", root_name, *folders)[-2])
    stem = relative.stem.replace("-", "_")  # LibriSpeech has dashes where LibriTTS has underscores
    if last.isdigit() and stem.startswith(f"{before}_{last}_") and before.isdigit():
        return before
    if last.isdigit() and (reader := re.match(rf"(\d+)_{last}_", stem)):
        return reader[1]  # a chapter that was given by itself
    if _VCTK_SPEAKER.fullmatch(last) and before.startswith("wav48"):
        return last
    return next((folder for folder in folders if not _is_order(folder)), root_name)


def first_microphone(path: PurePosixPath) -> PurePosixPath | None:
    """For a file of VCTK's second microphone the same sentence from the first; None for any other file."""
    first = _SECOND_MICROPHONE.sub("_mic1", path.stem)
    return None if first == path.stem else path.with_name(first + path.suffix)


def _is_order(folder: str) -> bool:
    return folder.lower() in _ORDER or _ORDER_PATTERNS.fullmatch(folder) is not None
