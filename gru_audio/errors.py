"""Every error that a user can cause, as one tree.

    GruAudioError
    ├── ConfigError      a config file, a preset's name or a --set override
    ├── AudioError       an audio file or array that cannot be used
    ├── MelError         a mel that does not fit its contract
    ├── DatasetError     a dataset folder, or the sources it is made from
    ├── CheckpointError  a voice or a training checkpoint
    ├── TrainingError    a training run that cannot go on
    ├── OutputError      a place that cannot be written
    ├── ClusterError     a cluster that cannot be reached or used
    └── MissingPackageError  a package that a plain install leaves out

Each carries one line for the user: what, what was got, how to mend it. The command line prints that
line and exits with 1; nothing else is caught.
"""

from gru_audio.names import shown

_LONGEST_SHOWN = 200  # letters of a wrong value


class GruAudioError(Exception):
    """Base of all errors that gru-audio raises on purpose; `str(error)` is one line for the user.

    Attributes:
        told: whether another process of the same run tells the user of it; None where they have not settled that.
    """

    told: bool | None = None

    def __init__(self, message: str) -> None:
        """Take the line; names in it may hold whatever a file system allows."""
        super().__init__(shown(message))


class ConfigError(GruAudioError):
    """A config file, a preset's name or an override is not valid."""


class AudioError(GruAudioError):
    """An audio file cannot be read, or an array is not audio."""


class MelError(GruAudioError):
    """A mel spectrogram does not fit the contract that it is used with."""


class DatasetError(GruAudioError):
    """A dataset is missing, damaged, or made with another contract."""


class CheckpointError(GruAudioError):
    """A file is not a voice or a training checkpoint, or does not fit the config."""


class TrainingError(GruAudioError):
    """Training cannot start or go on."""


class OutputError(GruAudioError):
    """An output cannot be written: no permission, not a folder, or the disk is full."""


class ClusterError(GruAudioError):
    """A cluster's scheduler does not answer, its workers have other versions, or it was lost."""


class MissingPackageError(GruAudioError):
    """A package is not installed that this work needs; the line says which extra brings it."""


def first_line(error: BaseException) -> str:
    """The first line of what another package's error says, as a clause; its kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def with_what_was_got(message: str, value: object) -> str:
    """A validator's message, and the value that it is of where it does not tell it: `Input should be …, got 'x'`."""
    message, got = message.removeprefix("Value error, ").rstrip("."), repr(value)
    if isinstance(value, str) and got in message:
        return message
    return f"{message}, got {got if len(got) <= _LONGEST_SHOWN else f'{got[:_LONGEST_SHOWN]}…'}"
