"""Bad input to the commands: one line that names the thing, what was got and a mend; nothing lost."""

import errno
import hashlib
import json
import os
import pickle
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

from gru_audio import cli
from gru_audio.config import Config, load_config, to_toml
from gru_audio.data.dataset import Dataset
from gru_audio.data.prepare import prepare
from gru_audio.errors import GruAudioError, OutputError
from gru_audio.files import output_errors
from gru_audio.inspection.describe import describe
from gru_audio.inspection.facts import RunFacts
from gru_audio.synthesis.int8.voice_file import export_voice
from gru_audio.voice.tensor_file import write_tensor_file
from gru_audio.voice.voice import Voice, save_voice

SAMPLES = Path(__file__).parents[2] / "samples"
TINY = (
    "model.gru_size=16",
    "model.conditioning_size=16",
    "model.readout_size=16",
    "model.pitch_size=16",
    "model.samples_per_step=4",
    "train.batch_size=2",
    "train.crop_samples=400",
    "train.valid_crops=2",
    "train.workers=0",
    "train.steps=4",
    "train.checkpoint_every=1",
)
Result = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Case:
    """A bad input.

    Attributes:
        what: the bad input, in words.
        command: what is typed after gru-audio, in the folder that `make_world` fills.
        says: parts of the message, in order: the thing, what was got, a mend.
        code: the exit code.
    """

    what: str
    command: str
    says: tuple[str, ...]
    code: int = 1


VOICE = "--voice voice.safetensors"
WITHOUT_FFMPEG = "ffmpeg is not on PATH; install ffmpeg or convert to WAV"
NOT_AUDIO = "is it whole, and audio?" if shutil.which("ffmpeg") else WITHOUT_FFMPEG
CASES = (
    # prep
    Case(
        "a path that does not exist",
        "prep nowhere -o out",
        ("nowhere: ", "no such file or folder", "check the path"),
    ),
    Case(
        "a folder without audio",
        "prep empty -o out",
        ("empty: ", "no audio files", "give files by name"),
    ),
    Case(
        "a text file named .wav",
        "prep text.wav -o out -c tiny.toml -j 1",
        ("none of 1 files can be used", "text.wav: ", "Format not recognised", NOT_AUDIO),
    ),
    Case(
        "a format that ffmpeg does not know",
        "prep good -o out --input-format g999",
        ("a.wav: ", "'g999' is not a format that can be read; did you mean g729?"),
    ),
    Case("no --output", "prep good", ("--output", "needed, except with --dry-run"), 2),
    Case("no process", "prep good -o out -j 0", ("--jobs", "1", "prep --help"), 2),
    Case(
        "a misspelled key in a config",
        "prep good -o out -c misspelled.toml",
        ("misspelled.toml: [mel]", "unknown key 'hop_sampels'", "did you mean 'hop_samples'?"),
    ),
    Case(
        "a config that is not TOML",
        "prep good -o out -c text.wav",
        ("text.wav: ", "not a readable TOML file", "mend it, or name a preset: "),
    ),
    Case(
        "a file's audio to stdout",
        "synthesize good -o -",
        ("--output", "stdout takes the audio of a stream, whose INPUT is -"),
        2,
    ),
    Case(
        "a preset that does not exist",
        "prep good -o out -c voice-17k",
        ("'voice-17k'", "neither a file, a run nor a preset", "voice-16k"),
    ),
    Case(
        "a --set that is no assignment",
        "prep good -o out --set trim",
        ("--set 'trim'", "write it as table.key=value"),
    ),
    Case(
        "a --set of another type",
        "prep good -o out --set prep.trim_db=loud",
        ("--set: [prep] trim_db", "should be a valid number, got 'loud'"),
    ),
    Case(
        "a --set out of range",
        "prep good -o out --set prep.valid_fraction=1.5",
        ("[prep] valid_fraction", "should be less than 1, got 1.5"),
    ),
    Case(
        "a dataset below a file",
        "prep good -o text.wav/out",
        ("text.wav/out: cannot be written: ", "Not a directory", "choose another place"),
    ),
    Case(
        "a folder that holds something else as dataset",
        "prep good -o good",
        ("good: ", "not empty and no dataset", "choose a new folder"),
    ),
    Case(
        "a dataset that was made with other settings",
        "prep good -o data -c tiny.toml --set mel.n_mels=64",
        ("data: ", "mel.n_mels 80, now 64", "choose another folder, or add --overwrite"),
    ),
    Case(
        "a damaged dataset.json",
        "prep good -o data-cut",
        ("data-cut/dataset.json: ", "damaged", "delete this file and run"),
    ),
    # train
    Case(
        "a dataset that does not exist",
        "train nowhere -o out",
        ("nowhere: ", "no such folder", "make one with gru-audio prep"),
    ),
    Case(
        "a folder that is no dataset",
        "train good -o out",
        ("good: ", "has no dataset.json", "make one with gru-audio prep"),
    ),
    Case(
        "a dataset of a newer version",
        "train data-newer -o out",
        ("data-newer: ", "version 9", "update gru-audio"),
    ),
    Case(
        "a dataset with a shard cut in half",
        "train data-short -o out --config tiny.toml",
        ("data-short/shard-00000.safetensors: ", "missing or damaged", "run the same gru-audio prep again"),
    ),
    Case(
        "a dataset made with another mel contract",
        "train data -o out --config mel64.toml",
        ("data: ", "n_mels 80, not 64", "prepare it again"),
    ),
    Case(
        "a misspelled key in --set",
        "train data -o out --set train.stpes=5",
        ("[train]", "unknown key 'stpes'", "did you mean 'steps'?"),
    ),
    Case(
        "a misspelled table in --set",
        "train data -o out --set trian.steps=5",
        ("unknown table 'trian'", "did you mean 'train'?"),
    ),
    Case(
        "--resume with nothing to resume",
        "train data -o out --config tiny.toml --resume",
        ("out: ", "holds no checkpoint", "start without --resume"),
    ),
    Case(
        "--resume with nothing to resume, and settings that would not fit the default preset",
        "train data -o out --resume --set train.steps=8",
        ("out: ", "holds no checkpoint", "start without --resume"),
    ),
    Case(
        "a run's folder that is taken",
        "train data -o run --config tiny.toml",
        ("run: ", "holds a run already (checkpoints/step-000000003", "add --resume, choose another"),
    ),
    Case(
        "a run that was started with another network",
        "train data -o run --resume --set model.gru_size=32",
        ("run: ", "another [model]", "resume with its config.toml"),
    ),
    Case(
        "a voice in a checkpoint's place",
        "train data -o run-voice --resume",
        ("step-000000003.safetensors: ", "is a voice, not a checkpoint", "name a checkpoint"),
    ),
    Case(
        "a run below a file",
        "train data -o text.wav/run --config tiny.toml",
        ("text.wav/run", "cannot be written: ", "Not a directory", "choose another place"),
    ),
    Case("no dataset", "train -o out", ("Missing argument 'DATASET'",), 2),
    # synthesize
    Case(
        "a path that does not exist",
        f"synthesize nowhere.wav {VOICE}",
        ("nowhere.wav: ", "no such file or folder", "check the path"),
    ),
    Case(
        "a folder without audio or mels",
        f"synthesize empty -o out {VOICE}",
        ("empty: ", "neither audio nor mels", "it looks for files that end in .3gp"),
    ),
    Case(
        "a mel under another contract",
        f"synthesize mel.npy {VOICE} --mel hifigan-22k",
        ("mel.npy: ", "sample_rate_hz 22050, not 16000", "make the mel anew"),
    ),
    Case(
        "a contract that does not exist",
        f"synthesize mel.npy {VOICE} --mel hifi",
        ("'hifi'", "not known", "choose one of speech-16k"),
    ),
    Case(
        "a voice that does not exist",
        "synthesize good/a.wav --voice nowhere.safetensors",
        ("nowhere.safetensors: ", "no such file", "check the path"),
    ),
    Case(
        "a text file as voice",
        "synthesize good/a.wav --voice text.wav",
        ("text.wav: ", "not a safetensors file", "name another"),
    ),
    Case(
        "random bytes as voice",
        "synthesize good/a.wav --voice noise.safetensors",
        ("noise.safetensors: ", "not a safetensors file, or a damaged one", "copy it again"),
    ),
    Case(
        "a pickle as voice",
        "synthesize good/a.wav --voice bomb.pt",
        ("bomb.pt: ", "not a safetensors file", "name another"),
    ),
    Case(
        "another program's safetensors as voice",
        "synthesize good/a.wav --voice foreign.safetensors",
        ("foreign.safetensors: ", "not one that gru-audio wrote", "name another"),
    ),
    Case(
        "a checkpoint as voice",
        "synthesize good/a.wav --voice run/checkpoints/step-000000003.safetensors",
        ("step-000000003.safetensors: ", "is a checkpoint, not a voice", "name a voice"),
    ),
    Case(
        "a voice of a newer version",
        "synthesize good/a.wav --voice newer.safetensors",
        ("newer.safetensors: ", "version 9, newer than this", "upgrade it"),
    ),
    Case(
        "a voice cut in half",
        "synthesize good/a.wav --voice cut.safetensors",
        ("cut.safetensors: ", "damaged", "copy it again"),
    ),
    Case(
        "a voice that lacks a tensor",
        "synthesize good/a.wav --voice lacking.safetensors",
        ("lacking.safetensors: ", "lacks the tensor", "export the voice again"),
    ),
    Case(
        "a voice without its config",
        "synthesize good/a.wav --voice hollow.safetensors",
        ("hollow.safetensors: ", "has no valid config", "copy it again"),
    ),
    Case(
        "a run that has no voice yet",
        "synthesize good/a.wav --voice run",
        ("run: ", "holds no voice.safetensors", "name a file"),
    ),
    Case(
        "an engine that does not exist",
        f"synthesize good/a.wav {VOICE} --engine warp",
        ("engine 'warp'", "does not exist", "choose one of auto"),
    ),
    Case(
        "a device that does not exist",
        f"synthesize good/a.wav {VOICE} --engine torch --device gpu",
        ("device 'gpu'", "does not exist", "use auto, cpu"),
    ),
    Case(
        "a temperature out of range",
        f"synthesize good/a.wav {VOICE} --temperature 0",
        ("temperature 0", "must be above 0 and at most 10"),
    ),
    Case(
        "a seed below 0", f"synthesize good/a.wav {VOICE} --seed -1", ("--seed", "0", "synthesize --help"), 2
    ),
    Case(
        "an output that is the input",
        f"synthesize good/a.wav -o good/a.wav {VOICE}",
        ("good/a.wav: ", "would replace an input", "choose another output"),
    ),
    Case(
        "an output folder that is the input's",
        f"synthesize good -o good {VOICE}",
        ("good/a.wav: ", "would replace an input", "choose another output"),
    ),
    Case(
        "links that go in circles as output",
        f"synthesize good/a.wav -o circle {VOICE}",
        ("circle: cannot be written: ", "is not a folder", "choose another place"),
    ),
    Case(
        "a link to nothing as output folder",
        f"synthesize good/a.wav -o astray/out {VOICE}",
        ("astray/out: cannot be written: ", "astray is not a folder", "choose another place"),
    ),
    Case(
        "links that go in circles as page",
        f"evaluate good -o circle {VOICE}",
        ("circle: cannot be written: ", "is not a folder", "choose another place"),
    ),
    Case(
        "a folder as an exported voice",
        f"export -o . {VOICE}",
        (".: cannot be written: ", "is a folder, not a file", "choose another place"),
    ),
    Case(
        "the topmost folder as an exported voice",
        f"export -o / {VOICE}",
        ("/: cannot be written: ", "is a folder, not a file", "choose another place"),
    ),
    Case(
        "links that go in circles as picture",
        "preview good/a.wav -o circle/a.svg",
        ("circle: cannot be written: ", "is not a folder", "choose another place"),
    ),
    Case(
        "links that go in circles as listing",
        "prep --manifest circle -o out",
        ("circle: ", "Too many levels of symbolic links", "check the path"),
    ),
    Case(
        "a voice as input",
        f"synthesize voice.safetensors -o out.wav {VOICE}",
        ("voice.safetensors: a voice, ", "not a mel", "give a mel or audio"),
    ),
    Case(
        "an input that is given twice",
        f"synthesize good/a.wav good/a.wav -o twice {VOICE}",
        ("good/a.wav: ", "given twice", "give it once"),
    ),
    Case(
        "one output file for two inputs",
        f"synthesize good -o out.wav {VOICE}",
        ("out.wav: ", "cannot take 2 results", "give a folder"),
    ),
    Case(
        "an output format that is not written",
        f"synthesize good/a.wav -o out.mp3 {VOICE}",
        ("out.mp3: ", "only .wav and .flac", "choose one of them"),
    ),
    Case(
        "an output below a file",
        f"synthesize good/a.wav -o text.wav/out.wav {VOICE}",
        ("text.wav: cannot be written: ", "is not a folder", "choose another place"),
    ),
    # preview
    Case(
        "a path that does not exist",
        "preview nowhere.wav",
        ("nowhere.wav: ", "No such file", "check the path"),
    ),
    Case(
        "a text file named .wav",
        "preview text.wav",
        ("text.wav: ", "Format not recognised", NOT_AUDIO),
    ),
    Case("a FLAC cut in half", "preview cut.flac", ("cut.flac: ", "truncated or damaged", "replace it")),
    Case("a float WAV with NaN", "preview nan.wav", ("nan.wav: ", "NaN or infinite", "export it again")),
    Case(
        "a mel of another width",
        "preview wide.npy",
        ("wide.npy: ", "(20, 100) has no axis of 80", "make the mel with 80"),
    ),
    Case("a mel with NaN", "preview holed.npy", ("holed.npy: ", "the first is frame 7", "make the mel anew")),
    Case("a folder that is no dataset", "preview empty", ("empty: ", "has no dataset.json", "make one with")),
    Case(
        "a clip that the dataset has not",
        "preview data --clip bb",
        ("data: ", "no clip 'bb' among 2", "did you mean b?"),
    ),
    Case(
        "--clip with a file", "preview good/a.wav --clip a", ("--clip", "not a folder", "leave --clip out"), 2
    ),
    Case(
        "a picture that would replace its source",
        "preview good/a.wav -o good/a.wav",
        ("good/a.wav: ", "would replace", "choose another name"),
    ),
    Case(
        "a picture below a file",
        "preview good/a.wav --quiet -o text.wav/a.svg",
        ("text.wav: cannot be written: ", "is not a folder", "choose another place"),
    ),
    Case("a width of 3", "preview good/a.wav --width 3", ("--width", "20", "preview --help"), 2),
    Case(
        "a picture of another format",
        "preview good/a.wav --quiet -o a.png",
        ("a.png: ", "only .svg is written", "choose a name"),
    ),
    Case("an empty mel", "preview nothing.npy", ("nothing.npy: ", "0 bytes", "replace it")),
    *(
        Case(f"{command} to stdout", f"{command} -o -", ("-o", "synthesize - alone", "give a path"), 2)
        for command in (
            "preview good/a.wav",
            "mel good --mel speech-16k",
            "prep good",
            "train data",
            "evaluate good",
            "export",
        )
    ),
    # evaluate
    Case(
        "a voice to evaluate that does not exist",
        "evaluate good --voice nowhere",
        ("nowhere: ", "no such file", "check the path"),
    ),
    Case(
        "a folder to evaluate with that does not exist",
        "evaluate nowhere --voice voice.safetensors",
        ("nowhere: ", "no such file or folder", "check the path"),
    ),
    Case(
        "a folder to evaluate with that has no audio",
        "evaluate empty --voice voice.safetensors",
        ("empty: ", "no audio files", "give files by name"),
    ),
    Case(
        "an evaluation with words named .wav alone",
        "evaluate text.wav --voice voice.safetensors",
        ("text.wav: none of 1 files can be read", "Format not recognised", NOT_AUDIO),
    ),
    Case(
        "a report below a file",
        "evaluate good --voice voice.safetensors -o text.wav/out",
        ("text.wav/out: cannot be written: ", "text.wav is not a folder", "choose another place"),
    ),
    Case(
        "an evaluation with no clips",
        "evaluate good --voice voice.safetensors --clips 0",
        ("--clips", "1", "evaluate --help"),
        2,
    ),
    # info
    Case("a path that does not exist", "info nowhere", ("nowhere: ", "no such file", "check the path")),
    Case("a folder of something else", "info good", ("good: ", "neither a dataset", "name a file in it")),
    Case("a text file", "info notes.txt", ("notes.txt: ", "neither audio nor a mel", "name a voice")),
    Case("a FLAC cut in half", "info cut.flac", ("cut.flac: ", "truncated or damaged", "replace it")),
    Case(
        "random bytes named .safetensors",
        "info noise.safetensors",
        ("noise.safetensors: ", "not a safetensors file", "name another"),
    ),
    Case("a voice cut in half", "info cut.safetensors", ("cut.safetensors: ", "damaged", "copy it again")),
    Case("a voice of a newer version", "info newer.safetensors", ("newer", "version 9", "upgrade it")),
    Case("a voice without its config", "info hollow.safetensors", ("hollow", "no valid", "copy it again")),
    Case("a mel with NaN", "info holed.npy", ("holed.npy: ", "the first is frame 7", "make the mel anew")),
    Case(
        "a dataset's shard",
        "info data/shard-00000.safetensors",
        ("data/shard-00000.safetensors: ", "a dataset's shard", "name its folder, data"),
    ),
    *(
        Case("an exported voice", command, ("voice.gru: ", "exported for C", "name the voice"))
        for command in ("info voice.gru", "synthesize good/a.wav --voice voice.gru")
    ),
    # export
    Case("a path that does not exist", "export --voice nowhere -o v.gru", ("nowhere: ", "no such file")),
    Case(
        "a voice cut in half",
        "export --voice cut.safetensors -o v.gru",
        ("cut.safetensors: ", "damaged", "copy it"),
    ),
    Case(
        "hollow weights",
        "export --voice hollow.safetensors -o v.gru",
        ("hollow", "no valid", "copy it again"),
    ),
    Case(
        "a voice over itself",
        "export --voice voice.safetensors -o voice.safetensors",
        ("voice.safetensors: ", "would replace the voice", "choose another output"),
    ),
    Case(
        "an output folder",
        "export --voice voice.safetensors -o good",
        ("good: ", "is a folder, not a file", "choose another place"),
    ),
    Case("an option that does not exist", "info good/a.wav --josn", ("--josn", "--json", "info --help"), 2),
    Case("a command that does not exist", "synthesise good/a.wav", ("synthesise", "synthesize", "--help"), 2),
    # train from a voice
    Case(
        "a voice to begin from that does not exist",
        "train data -o out --init nowhere",
        ("nowhere: ", "no such file", "name a bundled voice: debian-16k"),
    ),
)

BAD_AUDIO = {
    "text.wav": ("Format not recognised", NOT_AUDIO),
    "cut.flac": ("truncated or damaged", "replace it"),
    "nan.wav": ("NaN or infinite", "export it again"),
    "nothing.wav": ("0 bytes", "replace it"),
}
BAD_MELS = {
    "wide.npy": ("(20, 100) has no axis of 80", "use a voice with its contract"),
    "holed.npy": ("the first is frame 7", "make the mel anew"),
    "pickle.npy": ("it holds Python objects", "write it again"),
    "bomb.pt": ("could run code", "save the mel alone"),
}
"""Files in the folder `mixed`, and what is said of each."""


class Bomb:
    """What runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, ...]]:
        return Path.touch, (Path("unpickled"),)  # type: ignore[return-value]


def gru_audio(
    command: str, folder: Path, prepare_process: Callable[[], None] | None = None, **environment: str
) -> Result:
    """Run the real command in a folder."""
    return subprocess.run(
        [sys.executable, "-m", "gru_audio", *shlex.split(command)],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", "NO_COLOR": "1", **environment},
        capture_output=True,
        text=True,
        preexec_fn=prepare_process,
        timeout=120,
        check=False,
    )


def tone(duration_s: float = 0.4) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    t = np.arange(round(duration_s * 16_000)) / 16_000
    return np.asarray(sum(0.05 * np.sin(2 * np.pi * 150 * k * t) for k in range(1, 9)), np.float32)


def make_world(folder: Path) -> None:
    """Fill a folder with good and with bad files of every kind."""
    config = load_config("tiny", TINY)
    for run in ("run", "run-voice"):
        (folder / run / "checkpoints").mkdir(parents=True)
    for name in ("empty", "good", "mixed"):
        (folder / name).mkdir()
    for name in ("good/a.wav", "mixed/good.wav"):
        soundfile.write(folder / name, tone(), 16_000)
    soundfile.write(folder / "good/b.wav", tone(0.5), 16_000)
    for name in ("text.wav", "notes.txt"):
        (folder / name).write_text("Not audio but words.\n")
    for name in ("nothing.wav", "nothing.npy"):
        (folder / name).touch()
    (folder / "circle").symlink_to("circle")
    (folder / "astray").symlink_to("nowhere")
    whole = (SAMPLES / "it-carlo-vm-rec-name.flac").read_bytes()
    (folder / "cut.flac").write_bytes(whole[: len(whole) // 2])
    holed = np.where(np.arange(8_000) == 99, np.nan, 0.1)
    soundfile.write(folder / "nan.wav", holed, 16_000, subtype="FLOAT")
    _make_mels(folder)
    for name in (*BAD_AUDIO, *BAD_MELS):
        shutil.copy(folder / name, folder / "mixed")
    _make_configs(folder, config)
    _make_voices(folder, config)
    _make_datasets(folder, config)


def _make_mels(folder: Path) -> None:
    mel = np.full((20, 80), -4.0, np.float32)
    np.save(folder / "mel.npy", mel)
    np.save(folder / "wide.npy", np.full((20, 100), -4.0, np.float32))
    np.save(folder / "holed.npy", np.where(np.arange(20)[:, None] == 7, np.nan, mel))
    np.save(folder / "pickle.npy", np.array([Bomb()], object), allow_pickle=True)
    (folder / "bomb.pt").write_bytes(pickle.dumps(Bomb()))


def _make_configs(folder: Path, config: Config) -> None:
    tiny = to_toml(config)
    (folder / "tiny.toml").write_text(tiny)
    (folder / "misspelled.toml").write_text(tiny.replace("hop_samples", "hop_sampels"))
    (folder / "mel64.toml").write_text(tiny.replace("n_mels = 80", "n_mels = 64"))
    for run in ("run", "run-voice"):
        (folder / run / "config.toml").write_text(tiny)


def _make_voices(folder: Path, config: Config) -> None:
    import torch

    from gru_audio.network.model import Network

    torch.manual_seed(0)
    tensors = {name: tensor.numpy() for name, tensor in Network(config).state_dict().items()}
    save_voice(folder / "voice.safetensors", Voice(config, tensors))
    save_voice(folder / "lacking.safetensors", Voice(config, dict(list(tensors.items())[:-1])))
    save_voice(folder / "run-voice/checkpoints/step-000000003.safetensors", Voice(config, tensors))
    document = {"config": config.model_dump(), "metadata": {}}
    write_tensor_file(folder / "newer.safetensors", "voice", {**document, "version": 9}, tensors)
    write_tensor_file(folder / "hollow.safetensors", "voice", {}, tensors)
    whole = (folder / "voice.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    checkpoint = {"step": 3, "config": config.model_dump(), "best_bits": None, "skipped": 0, "scaler": {}}
    path = folder / "run/checkpoints/step-000000003.safetensors"
    groups = {f"{group}/{name}": t for group in ("network", "average") for name, t in tensors.items()}
    write_tensor_file(path, "checkpoint", checkpoint, {**groups, "optimizer/step": np.zeros(1)})
    export_voice(folder / "voice.safetensors", folder / "voice.gru")
    (folder / "noise.safetensors").write_bytes(np.random.default_rng(0).bytes(5_000))
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(3), "b": np.zeros(3)}, folder / "foreign.safetensors")


def _make_datasets(folder: Path, config: Config) -> None:
    prepare([folder / "good"], folder / "data", config, jobs=1)
    for name in ("data-newer", "data-short", "data-cut"):
        shutil.copytree(folder / "data", folder / name)
    contents = folder / "data-newer/dataset.json"
    contents.write_text(json.dumps({**json.loads(contents.read_text()), "version": 9}))
    for name in ("data-short/shard-00000.safetensors", "data-cut/dataset.json"):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that all commands of this file run in; each test leaves it as it was."""
    folder = tmp_path_factory.mktemp("world")
    make_world(folder)
    return folder


@pytest.fixture(autouse=True)
def _nothing_is_lost(request: pytest.FixtureRequest) -> Iterator[None]:
    """After a test every file is as before, none is new, and no pickle has run."""
    if "world" not in request.fixturenames:
        yield
        return
    folder: Path = request.getfixturevalue("world")
    before = _digests(folder)
    yield
    assert _digests(folder) == before


def _digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def assert_one_line(result: Result, *says: str, code: int = 1) -> None:
    """One line on stderr that has the parts in order, and nothing on stdout."""
    assert result.returncode == code, result.stderr
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    assert_says(lines[0], says)
    assert result.stdout == ""


def assert_says(text: str, parts: Iterable[str]) -> None:
    place = 0
    for part in parts:
        place = text.find(part, place)
        assert place >= 0, f"{part!r} is not in its place in {text!r}"
        place += len(part)


@pytest.fixture
def in_this_process(
    world: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[[str], Result]:
    """Runs a command as `gru_audio` does, without the second that a process of its own takes to begin."""
    monkeypatch.chdir(world)
    monkeypatch.setenv("NO_COLOR", "1")

    def run(command: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["gru-audio", *shlex.split(command)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capfd.readouterr()
        code = ended.value.code
        return Result(command, code if isinstance(code, int) else 0, said.out, said.err)

    return run


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.command.split()[0]}: {case.what}")
def test_bad_input_is_told_in_one_line(case: Case, in_this_process: Callable[[str], Result]) -> None:
    assert_one_line(in_this_process(case.command), *case.says, code=case.code)


@pytest.mark.parametrize(
    "case", [case for case in CASES if NOT_AUDIO in case.says], ids=lambda case: case.command
)
def test_so_is_what_is_not_audio_without_ffmpeg(
    case: Case,
    in_this_process: Callable[[str], Result],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    says = [WITHOUT_FFMPEG if part == NOT_AUDIO else part for part in case.says]
    assert_one_line(in_this_process(case.command), *says)


REAL = ("a path that does not exist", "no --output", "a text file as voice")


@pytest.mark.parametrize("what", REAL)
def test_so_does_the_real_command(what: str, world: Path) -> None:
    case = next(case for case in CASES if case.what == what)
    assert_one_line(gru_audio(case.command, world), *case.says, code=case.code)


@pytest.mark.parametrize("command", ["info", "synthesize a.wav -o b.wav", "prep . -o out"])
def test_a_folder_that_is_gone_is_told_in_one_line(
    command: str, tmp_path: Path, in_this_process: Callable[[str], Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    says = ("the folder in which this was typed is gone", "change to another with cd")
    assert_one_line(in_this_process(command), *says)


@pytest.mark.parametrize(
    "command",
    [
        *("prep '' -o out", "prep good -o ''", "prep good -o out -c ''", "prep good -o out --manifest ''"),
        *("prep good -o out --mels ''", "prep good -o out --set ''", "train '' -o out", "train data -o ''"),
        *(
            "train data -o out --init ''",
            "synthesize ''",
            "synthesize good/a.wav --output=",
            "mel good -o ''",
        ),
        *("synthesize good/a.wav --voice ''", "synthesize good/a.wav --mel ''", "synthesize good/a.wav ''"),
        *("evaluate ''", "evaluate good -o ''", "preview ''", "preview good/a.wav -o ''", "info ''"),
        *("export -o ''", "export --voice ''", "bench --case ''", "bench --engine ''"),
    ],
)
def test_an_empty_value_is_not_the_current_folder(
    command: str, in_this_process: Callable[[str], Result]
) -> None:
    says = ("Invalid value for ", ": is empty; give a value, or leave it out", "--help tells more")
    assert_one_line(in_this_process(command), *says, code=2)


@pytest.mark.parametrize(
    ("command", "name"),
    [
        *(("prep {} -o out", name) for name in ("good/a.wav", "good")),
        *(("synthesize {} -o out", name) for name in ("good/a.wav", "mel.npy", "good")),
        *(("info {}", name) for name in ("good/a.wav", "voice.safetensors")),
        ("mel {} -o out --mel speech-16k", "good/a.wav"),
        ("preview {}", "mel.npy"),
        ("evaluate {}", "good/a.wav"),
        ("synthesize good/a.wav -o out.wav --voice {}", "voice.safetensors"),
        ("train data -o out --init {}", "voice.safetensors"),
        ("prep --manifest {} -o out", "notes.txt"),
    ],
)
def test_what_may_not_be_read_is_told_alike_by_all(
    command: str,
    name: str,
    in_this_process: Callable[[str], Result],
    monkeypatch: pytest.MonkeyPatch,
    world: Path,
) -> None:
    """As a user who is not root sees it."""
    access, scandir, hidden = os.access, os.scandir, str(world / name)

    def asked(path: str | Path, mode: int) -> bool:
        return os.path.realpath(path) != hidden and access(path, mode)

    def searched(path: str | Path | int = ".") -> object:
        if not isinstance(path, int) and os.path.realpath(path) == hidden:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "access", asked)
    monkeypatch.setattr(os, "scandir", searched)
    done = in_this_process(command.format(name))
    mend = (
        ("cannot be searched (Permission denied); check who",)
        if name == "good"
        else ("Permission denied; check",)
    )
    assert_one_line(done, f"{name}: ", *mend)


def test_a_licence_may_be_empty(
    world: Path, tmp_path: Path, in_this_process: Callable[[str], Result]
) -> None:
    done = in_this_process(f"prep good -o {tmp_path}/out -c tiny.toml -j 1 --licence '' --source-note ''")
    assert done.returncode == 0


@pytest.mark.parametrize(
    "command", ["prep", "synthesize", "mel --mel speech-16k", "evaluate", "info", "preview"]
)
def test_a_link_in_a_circle_is_told_alike_by_all(
    command: str, in_this_process: Callable[[str], Result]
) -> None:
    output = "" if command in ("evaluate", "info", "preview") else " -o out"
    says = ("error: circle: Too many levels of symbolic links; check the path",)
    assert_one_line(in_this_process(f"{command} circle{output}"), *says)


def test_prep_names_each_bad_file_and_makes_the_rest(world: Path, tmp_path: Path) -> None:
    result = gru_audio(f"prep mixed -o {tmp_path}/out -c tiny.toml -j 1", world)
    assert result.returncode == 1
    assert_each_is_named(result, BAD_AUDIO, "error: ")
    assert [clip.name for clip in Dataset.open(tmp_path / "out").clips()] == ["good"]


def test_synthesize_names_each_bad_file_and_makes_the_rest(world: Path, tmp_path: Path) -> None:
    result = gru_audio(f"synthesize mixed -o {tmp_path}/out {VOICE}", world)
    assert result.returncode == 1
    assert_each_is_named(result, BAD_AUDIO | BAD_MELS, "error: ")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.wav"]
    assert soundfile.info(tmp_path / "out/good.wav").frames == tone().size


def assert_each_is_named(result: Result, bad: Mapping[str, tuple[str, ...]], begins: str) -> None:
    lines = [line for line in result.stderr.splitlines() if not line.startswith(("warning: ", "engine "))]
    assert len(lines) == len(bad), result.stderr
    for name, says in bad.items():
        (line,) = (line for line in lines if f"/{name}: " in line)
        assert line.startswith(begins)
        assert_says(line, says)


# A full disk, a disk that cannot be written


def mount(folder: Path, options: str) -> bool:
    """Mount a disk of its own on a folder, where that is allowed here."""
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    return (
        bool(shutil.which("mount"))
        and not subprocess.run(command, capture_output=True, check=False).returncode
    )


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Callable[[], None] | None]]:
    """Makes tmp_path small: a disk of so many kB, else a limit for what the process may write to one file.

    The maker gives what to do in the process before it starts.
    """
    mounted = False

    def make(kilobytes: int) -> Callable[[], None] | None:
        nonlocal mounted
        mounted = mount(tmp_path, f"size={kilobytes}k")
        return None if mounted else lambda: limit_files(kilobytes)

    yield make
    if mounted:
        subprocess.run(["umount", str(tmp_path)], check=True)


def limit_files(kilobytes: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1024, kilobytes * 1024))


FULL = ("cannot be written: ", "; ")


@pytest.mark.parametrize("way", ["disk", "limit"])
def test_prep_on_a_full_disk(
    way: str, world: Path, tmp_path: Path, small_disk: Callable[[int], Callable[[], None] | None]
) -> None:
    before = small_disk(24) if way == "disk" else lambda: limit_files(24)
    result = gru_audio(f"prep good -o {tmp_path}/out -c tiny.toml -j 1", world, before)
    assert_one_line(result, f"{tmp_path}/out/shard-00000.safetensors: ", *FULL)
    assert not (tmp_path / "out").exists()


def test_synthesize_on_a_full_disk(
    world: Path, tmp_path: Path, small_disk: Callable[[int], Callable[[], None] | None]
) -> None:
    result = gru_audio(f"synthesize good/a.wav -o {tmp_path}/out.wav {VOICE}", world, small_disk(8))
    assert_one_line(result, f"{tmp_path}/out.wav: ", *FULL)
    assert not list(tmp_path.iterdir())


def test_train_on_a_full_disk_keeps_the_checkpoints(
    world: Path, tmp_path: Path, small_disk: Callable[[int], Callable[[], None] | None]
) -> None:
    disk = small_disk(2_300)
    result = gru_audio(f"train data -o {tmp_path}/run --config tiny.toml --threads 1 --quiet", world, disk)
    assert_one_line(result, f"{tmp_path}/run/", *FULL)
    run = describe(tmp_path / "run")
    assert isinstance(run, RunFacts)
    assert run.checkpoints == [1]
    assert not list(tmp_path.rglob("*.partial*"))


def test_a_disk_that_cannot_be_written(world: Path, tmp_path: Path) -> None:
    if not mount(tmp_path, "ro"):
        pytest.skip("mounting is not allowed here")
    try:
        result = gru_audio(f"prep good -o {tmp_path}/out", world)
        assert_one_line(result, f"{tmp_path}/out: ", "Read-only file system", "choose another place")
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.parametrize(
    ("number", "mend"),
    [
        (errno.ENOSPC, "free space there"),
        (errno.EDQUOT, "free space there"),
        (errno.EROFS, "; choose another place"),
        (errno.EACCES, "; choose another place"),
        (errno.ENOTDIR, "; choose another place"),
        (errno.EFBIG, "ulimit -f"),
        (errno.EMFILE, "ulimit -n"),
        (errno.EIO, "check the disk"),
    ],
)
def test_the_mend_fits_the_reason(number: int, mend: str) -> None:
    with pytest.raises(OutputError) as caught, output_errors(Path("out.wav")):
        raise OSError(number, os.strerror(number))
    assert str(caught.value).startswith(f"out.wav: cannot be written: {os.strerror(number)}")
    assert mend in str(caught.value)


# What can end any command


def test_a_full_stdout(world: Path) -> None:
    command = [sys.executable, "-m", "gru_audio", "info", "voice.safetensors"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, cwd=world, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert (
        done.stderr
        == "error: cannot go on: No space left on device; free space there, or choose another place\n"
    )


@pytest.mark.parametrize(
    ("command", "code"),
    [("mel good -o out --mel voice-16k -j 1", 0), ("info no-such-file", 1), ("info -x", 2)],
)
def test_a_full_stderr_changes_no_exit_code(command: str, code: int, world: Path, tmp_path: Path) -> None:
    (tmp_path / "good").symlink_to(world / "good")
    arguments = [sys.executable, "-m", "gru_audio", *command.split()]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(arguments, cwd=tmp_path, stdout=subprocess.PIPE, stderr=full, check=False)
    assert (done.returncode, done.stdout) == (code, b"")
    assert (tmp_path / "out").exists() == (code == 0)


@pytest.mark.parametrize("options", ["", "--json"])
def test_a_reader_that_leaves_early(options: str, world: Path) -> None:
    command = f"{shlex.quote(sys.executable)} -m gru_audio info voice.safetensors {options} | true"
    done = subprocess.run(command, shell=True, cwd=world, capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_ctrl_c_ends_with_one_line(world: Path, tmp_path: Path) -> None:
    slow = tmp_path / "ffmpeg"
    slow.write_text(f"#!/bin/sh\ntouch {tmp_path}/began\nexec sleep 60\n")
    slow.chmod(0o755)
    process = subprocess.Popen(
        [sys.executable, "-m", "gru_audio", "info", "text.wav"],
        cwd=world,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    give_up = time.monotonic() + 120
    while not (tmp_path / "began").exists() and time.monotonic() < give_up:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert said == "stopped\n"
    assert process.returncode == 130


@pytest.mark.parametrize(
    ("raised", "says"),
    [
        (MemoryError(), ("not enough memory", "work on less at once")),
        (
            OSError(errno.EACCES, "Permission denied", "x/y"),
            ("x/y: Permission denied", "choose another place"),
        ),
        (GruAudioError("a\nb: bad; mend it"), ("a b: bad; mend it",)),
    ],
)
def test_stray_errors_are_one_line(
    raised: Exception,
    says: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        raise raised

    monkeypatch.setattr(cli, "make_app", lambda commands, only_listed: fail)
    monkeypatch.setattr(cli, "let_go", lambda descriptor: None)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    said = capfd.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert_says(said, says)


def test_other_system_errors_are_bugs_and_show_where(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "x")

    monkeypatch.setattr(cli, "make_app", lambda commands, only_listed: fail)
    with pytest.raises(FileNotFoundError):
        cli.main()
