"""`gru-audio preview`: a clip or a mel as a picture in the terminal."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from gru_audio.cli.console import note, print_json
from gru_audio.cli.options import Json, Quiet, input_argument, mel_option, output_option
from gru_audio.names import shown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.console import Console
    from rich.text import Text

    from gru_audio.config import MelConfig

_DEFAULT_CONTRACT = "speech-16k"
_DEFAULT_COLUMNS, _DEFAULT_ROWS = 80, 30
_LEAST_ROWS, _MOST_ROWS = 22, 42  # of a picture that follows the terminal's height


class _Clip(NamedTuple):
    """Audio of one channel (n,), full scale 1."""

    name: str
    audio: "NDArray[np.float32]"
    sample_rate_hz: int
    n_channels: int | None
    contract: "MelConfig | None"


class _Mel(NamedTuple):
    """A mel (F, M) and its contract."""

    name: str
    mel: "NDArray[np.float32]"
    contract: "MelConfig"


def preview(
    file: Annotated[
        Path,
        input_argument("FILE", "Audio, a mel (.npy, .npz, .pt, .safetensors), or the folder of a dataset."),
    ],
    play: Annotated[
        bool, typer.Option("--play", help="Play the audio after showing it; needs the extra 'play'.")
    ] = False,
    clip: Annotated[
        str | None,
        typer.Option("--clip", metavar="NAME", help="Which clip of a dataset.", show_default="its first"),
    ] = None,
    mel: Annotated[
        str | None,
        mel_option(
            "The contract of a mel that states none, or to draw audio with: a preset such as hifigan-22k, "
            "a TOML file, or a run."
        ),
    ] = None,
    width: Annotated[
        int | None,
        typer.Option(
            "--width",
            min=20,
            max=1000,
            help="Columns, at most the terminal's.",
            show_default="all; 80 in a pipe",
        ),
    ] = None,
    height: Annotated[
        int | None,
        typer.Option(
            "--height", min=12, max=500, help="Rows.", show_default="as the terminal allows; 30 in a pipe"
        ),
    ] = None,
    output: Annotated[Path | None, output_option("PICTURE", "Also write the picture, a .svg file.")] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Show audio or a mel in the terminal: waveform, log-mel spectrogram, level, pitch and duration.

    The picture is in colour where the terminal has it. In a pipe, with NO_COLOR or on a dumb terminal it is
    plain ASCII.

    **Examples**

        gru-audio preview speech.flac

        gru-audio preview speech.wav --width 120 --height 40 -o speech.svg

        gru-audio preview mel.npy --mel hifigan-22k

        gru-audio preview my-dataset --clip clip_0007 --play
    """
    from rich.console import Console

    from gru_audio.errors import OutputError
    from gru_audio.files import require_writable

    if output is not None:
        if os.path.realpath(output) == os.path.realpath(file):
            raise OutputError(f"{output}: would replace the file to be shown; choose another name")
        if output.suffix.lower() != ".svg":
            raise OutputError(f"{output}: only .svg is written; choose a name that ends so")
        require_writable(output.parent)
    source = _read(file, clip, mel, quiet)
    console = Console()
    width, height = width or console.width or _DEFAULT_COLUMNS, height or _rows(console)
    if json:
        print_json(_figures(source))
    else:
        console.width = min(width, console.width) if console.is_terminal else width
        _show(source, console, height)
    if output is not None:
        _write_svg(source, width, height, output)
        note(f"picture written to {shown(str(output))}", quiet=quiet)
    if play:
        _play(source, file)


def _read(file: Path, clip: str | None, contract: str | None, quiet: bool) -> _Clip | _Mel:
    """What FILE holds; a folder is a dataset, the suffix tells a mel, all else is audio."""
    from gru_audio.config import MEL_PRESETS, load_mel_config
    from gru_audio.signal.audio_file.reading import read_audio, read_encoding
    from gru_audio.signal.mel_file import MEL_SUFFIXES, read_mel

    wanted = None if contract is None else load_mel_config(contract)
    if file.is_dir():
        return _read_clip(file, clip, wanted)
    if clip is not None:
        raise typer.BadParameter(f"{shown(str(file))} is not a folder; leave --clip out", param_hint="--clip")
    name = shown(file.name)
    if file.suffix.lower() not in MEL_SUFFIXES:
        audio, sample_rate_hz = read_audio(file)
        encoding = read_encoding(file)
        return _Clip(name, audio, sample_rate_hz, encoding.n_channels if encoding else None, wanted)
    default = MEL_PRESETS[_DEFAULT_CONTRACT]
    mel, held = read_mel(file, wanted or default, lambda guess: note(f"{name}: {guess}", quiet=quiet))
    if held is default:
        note(
            f"{name} states no mel contract; taken for {_DEFAULT_CONTRACT}, --mel names another",
            quiet=quiet,
        )
    elif wanted is not None and held is not wanted:
        note(f"{name} states its own mel contract; --mel is left aside", quiet=quiet)
    return _Mel(name, mel, held or default)


def _read_clip(folder: Path, name: str | None, contract: "MelConfig | None") -> _Clip:
    import difflib

    from gru_audio.data.dataset import Dataset
    from gru_audio.errors import DatasetError
    from gru_audio.signal.audio import from_int16

    dataset = Dataset.open(folder)
    clips = {clip.name: clip for clip in dataset.clips()}
    if not clips:
        raise DatasetError(f"{folder}: the dataset has no clips; run gru-audio prep again")
    if name is not None and name not in clips:
        near = difflib.get_close_matches(name, clips, n=3, cutoff=0.4) or list(clips)[:3]
        raise DatasetError(f"{folder}: no clip '{name}' among {len(clips)}; did you mean {', '.join(near)}?")
    clip = clips[name] if name is not None else next(iter(clips.values()))
    audio = from_int16(dataset.audio(clip))
    return _Clip(shown(clip.name), audio, dataset.mel.sample_rate_hz, 1, contract or dataset.mel)


def _figures(source: _Clip | _Mel) -> dict[str, object]:
    from gru_audio.inspection.facts import AudioFacts, MelFacts
    from gru_audio.inspection.preview import PitchFacts

    if isinstance(source, _Mel):
        contract = source.contract
        sizes = {"sample_rate_hz": contract.sample_rate_hz, "hop_samples": contract.hop_samples}
        return {"kind": "mel", "name": source.name, **asdict(MelFacts.of(source.mel, contract)), **sizes}
    facts = AudioFacts.of(source.audio, source.sample_rate_hz, source.n_channels)
    pitch = PitchFacts.of(source.audio, source.sample_rate_hz)
    return {"kind": "audio", "name": source.name, **asdict(facts), **asdict(pitch)}


def _picture(source: _Clip | _Mel, width: int, height: int, colour: bool) -> "Text":
    from gru_audio.inspection.facts import AudioFacts
    from gru_audio.inspection.preview import audio_picture, mel_picture

    if isinstance(source, _Mel):
        return mel_picture(source.name, source.mel, source.contract, width, height, colour)
    facts = AudioFacts.of(source.audio, source.sample_rate_hz, source.n_channels)
    return audio_picture(source.name, source.audio, facts, source.contract, width, height, colour)


def _show(source: _Clip | _Mel, console: "Console", height: int) -> None:
    from rich.text import Text

    colour = _has_colour(console)
    picture = _picture(source, console.width, height, colour)
    if not colour:  # the file's name may have letters that the terminal has not
        picture = Text(picture.plain.encode(console.encoding, "replace").decode(console.encoding))
    console.print(picture, no_wrap=True, overflow="crop")


def _has_colour(console: "Console") -> bool:
    """Whether the picture can have its colours and its block characters; 16 colours are too few."""
    enough = console.color_system in ("256", "truecolor") and not console.no_color
    return enough and console.encoding.startswith("utf")


def _rows(console: "Console") -> int:
    """Rows of a picture that leaves the terminal a line for its prompt."""
    return min(max(console.height - 2, _LEAST_ROWS), _MOST_ROWS) if console.is_terminal else _DEFAULT_ROWS


def _write_svg(source: _Clip | _Mel, width: int, height: int, path: Path) -> None:
    import io

    from rich.console import Console
    from rich.terminal_theme import SVG_EXPORT_THEME

    from gru_audio.files import atomic_path

    recorder = Console(
        record=True,
        file=io.StringIO(),
        width=width,
        force_terminal=True,
        color_system="truecolor",
        no_color=False,
    )
    recorder.print(_picture(source, width, height, colour=True), no_wrap=True, overflow="crop")
    drawing = recorder.export_svg(title=f"gru-audio preview {source.name}")
    # What reverse video leaves out is drawn over, in the background's colour; a thin stroke closes its seams.
    paper = f"fill: {SVG_EXPORT_THEME.background_color.hex}"
    drawing = drawing.replace(paper, f"{paper}; stroke: {SVG_EXPORT_THEME.background_color.hex}")
    with atomic_path(path) as temporary:
        temporary.write_text(drawing, encoding="utf-8")


def _play(source: _Clip | _Mel, file: Path) -> None:
    """Play a clip to its end.

    Raises:
        AudioError: a mel, or there is nothing to play with or on.
    """
    from gru_audio.errors import AudioError

    if isinstance(source, _Mel):
        raise AudioError(
            f"{file}: a mel cannot be played; run gru-audio synthesize on it, then preview the result"
        )
    if not source.audio.size:
        raise AudioError(f"{file}: has no samples to play")
    try:
        import sounddevice
    except ImportError as error:
        raise AudioError(
            "--play needs the package sounddevice, which is not installed; run pip install 'gru-audio[play]'"
        ) from error
    except OSError as error:  # raised by its import
        raise AudioError(
            "--play needs the PortAudio library, which is not installed; on Debian or Ubuntu run "
            "apt install libportaudio2"
        ) from error
    try:
        sounddevice.play(source.audio, source.sample_rate_hz, blocking=True)
    except (sounddevice.PortAudioError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise AudioError(
            f"--play: no device plays this ({reason}); connect one, or play the file elsewhere"
        ) from error
