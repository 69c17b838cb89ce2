"""gru-audio evaluate: anchors in line with the clip, figures that agree with each other, and what is left out."""

import json
import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from support.small import RATE, small_config
from typer.testing import CliRunner

from gru_audio.bench.cases import random_voice
from gru_audio.cli import app
from gru_audio.config import Config, MelConfig
from gru_audio.data.dataset import Dataset
from gru_audio.data.stored.clips import Clip
from gru_audio.errors import AudioError, DatasetError
from gru_audio.evaluation import anchors
from gru_audio.evaluation.evaluate import evaluate
from gru_audio.evaluation.left_out import SILENT, LeftOut, told
from gru_audio.evaluation.likelihood import Likelihood
from gru_audio.evaluation.results import SYSTEMS, ClipResult, Evaluation, Measure, MeasureSummary
from gru_audio.progress import Progress
from gru_audio.quality.material import Original, find_originals
from gru_audio.quality.pitch_measures import PitchTrack
from gru_audio.signal.mel import log_mel
from gru_audio.voice.voice import save_voice

Floats = NDArray[np.float32]
COMMAND = "gru_audio.evaluation.evaluate"


def centred(config: Config) -> Config:
    contract = MelConfig.model_validate({**config.mel.model_dump(), "padding": "center"})
    return config.model_copy(update={"mel": contract})


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the slow measures: pYIN's tracks are made up, and neither speechmos nor distillmos is installed."""

    def track(audio: Floats, rate: int) -> PitchTrack:
        return PitchTrack(
            np.full(audio.size // 100, 100 + float(np.abs(audio).mean())), np.ones(audio.size // 100, bool)
        )

    monkeypatch.setattr(f"{COMMAND}.track_f0", track)
    monkeypatch.setitem(sys.modules, "speechmos.dnsmos", None)
    monkeypatch.setitem(sys.modules, "distillmos", None)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, speech: Floats) -> Path:
    """A voice, and clips of two speakers, one of them short, one silent and one file that is no audio."""
    folder = tmp_path_factory.mktemp("world")
    save_voice(folder / "voice.safetensors", random_voice(small_config()))
    for speaker in ("ann", "bob"):
        (folder / "clips" / speaker).mkdir(parents=True)
    soundfile.write(folder / "clips/ann/a.wav", speech[:20_000], 16_000)
    soundfile.write(folder / "clips/ann/broken.wav", speech[:100], 16_000)
    (folder / "clips/ann/broken.wav").write_text("no audio")
    soundfile.write(folder / "clips/bob/short.wav", speech[16_000:18_000], 16_000)
    soundfile.write(folder / "clips/bob/silent.wav", np.zeros(8_000), 16_000)
    return folder


def run(world: Path, *options: str) -> tuple[str, str]:
    arguments = [
        "evaluate",
        str(world / "clips"),
        "--voice",
        str(world / "voice.safetensors"),
        "-j",
        "1",
        *options,
    ]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout, result.stderr


# Anchors


def snr_db(reference: Floats, made: Floats) -> float:
    return float(10 * np.log10(np.sum(reference**2) / np.sum((made - reference) ** 2)))


@pytest.mark.parametrize("n_samples", [16_000, 15_999])
def test_g722_is_aligned_to_the_sample(n_samples: int, speech: Floats) -> None:
    clip = speech[16_000 : 16_000 + n_samples]
    made = anchors.g722(clip, 16_000)
    assert made.shape == clip.shape
    assert snr_db(clip, made) > 15
    assert snr_db(clip[:-1], made[1:]) < 12
    assert anchors.g722(clip, 24_000).shape == clip.shape


@pytest.mark.parametrize("n_samples", [1, 64, 257, 800])
def test_griffin_lim_takes_a_clip_shorter_than_its_transform(speech: Floats, n_samples: int) -> None:
    """Without a warning of librosa's, which tests take for an error."""
    config, clip = small_config().mel, np.ascontiguousarray(speech[16_000 : 16_000 + n_samples])
    made = anchors.griffin_lim(log_mel(clip, config), config, n_samples)
    assert made.shape == clip.shape
    assert np.isfinite(made).all()


@pytest.mark.parametrize("make", [lambda config: config, centred])
def test_codec_and_griffin_lim_are_aligned(make: Any, speech: Floats) -> None:
    config = make(small_config())
    clip = np.ascontiguousarray(speech[16_000:24_000])
    mel = log_mel(clip, config.mel)
    made = anchors.codec_alone(clip, mel, config)
    assert made.shape == clip.shape
    assert snr_db(clip, made) > 15
    made = anchors.griffin_lim(mel, config.mel, clip.size)
    assert made.shape == clip.shape
    window = np.ones(400) / 400
    envelopes = [np.sqrt(np.convolve(audio**2, window, "same")) for audio in (clip, made)]
    shifts = range(-160, 161, 8)
    fit = [
        np.corrcoef(envelopes[0][200:-200], np.roll(envelopes[1], shift)[200:-200])[0, 1] for shift in shifts
    ]
    assert abs(shifts[int(np.argmax(fit))]) <= 24
    assert max(fit) > 0.9


def test_g722_without_ffmpeg(monkeypatch: pytest.MonkeyPatch, speech: Floats) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(AudioError, match="needs ffmpeg"):
        anchors.g722(speech, 16_000)


# Likelihood


def test_a_random_voice_codes_at_about_eight_bits(speech: Floats) -> None:
    voice = random_voice(small_config())
    clip = np.ascontiguousarray(speech[16_000:20_000])
    mel = log_mel(clip, voice.config.mel)
    bits = {engine: Likelihood(voice, engine).bits(clip, mel) for engine in ("float32", "int8", "torch")}
    assert bits["float32"] == pytest.approx(8, abs=1)
    assert bits["int8"] == pytest.approx(bits["float32"], abs=0.05)
    assert bits["torch"] == bits["float32"]
    assert Likelihood.of(random_voice(small_config(cell="lstm")), "torch") is None


# Clips


class FakeDataset:
    """Held-out clips of two speakers, with what `material` asks of a dataset."""

    path, mel = Path("made-up"), MelConfig()

    def __init__(self, clips: list[Clip]) -> None:
        self._clips = clips

    def clips(self, split: str) -> list[Clip]:
        return [clip for clip in self._clips if clip.split == split]

    def audio(self, clip: Clip) -> NDArray[np.int16]:
        return np.ones(clip.n_samples, np.int16)


def test_held_out_clips_go_from_speaker_to_speaker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dataset.json").touch()
    second = 16_000
    clips = [
        Clip("v1", "b", "", 3 * second, "valid"),
        Clip("t1", "b/digits", "", second, "test"),
        Clip("t2", "b", "", 3 * second, "test"),
        Clip("t3", "a", "", 9 * second, "test"),
        Clip("x", "a", "", 3 * second, "train"),
    ]
    monkeypatch.setattr(Dataset, "open", lambda path: FakeDataset(clips))
    found, unreadable = find_originals(tmp_path)
    assert [(clip.name, clip.speaker) for clip in found] == [
        ("t3", "a"),
        ("t2", "b"),
        ("v1", "b"),
        ("t1", "b"),
    ]
    assert not unreadable
    assert [clip.name for clip in find_originals(tmp_path, 2)[0]] == ["t3", "t2"]
    monkeypatch.setattr(Dataset, "open", lambda path: FakeDataset(clips[-1:]))
    with pytest.raises(DatasetError, match=r"no clip is held out.*test_fraction"):
        find_originals(tmp_path)


def test_a_file_without_a_sample_at_the_voices_rate_is_left_out(tmp_path: Path, speech: Floats) -> None:
    """The evaluation of all others ended in a traceback."""
    soundfile.write(tmp_path / "one.wav", np.full(1, 0.1), 48_000)
    soundfile.write(tmp_path / "whole.wav", speech[:1_000], 16_000)
    found, unreadable = find_originals(tmp_path, rate_hz=16_000)
    assert [clip.name for clip in found] == ["whole"]
    assert len(unreadable) == 1
    assert "one.wav: its 1 samples at 48000 Hz are none at 16000 Hz" in unreadable[0]


# The evaluation


def test_notes_are_one_for_each_reason() -> None:
    systems = ["voice", "network", "codec", "reference"]
    found = [LeftOut(f"s{i}", system, SILENT) for i in range(40) for system in ("voice", "codec")]
    found += [LeftOut(f"s{i}", system, f"0.{i} s: too short") for i in (1, 2) for system in systems[:-1]]
    found += [LeftOut("t", "network", "no pitch")]
    assert told(found, systems) == (
        "s0: silent, so that nothing is compared with it; so of 39 more clips",
        "s1: 0.1 s: too short; so of 1 more clip",
        "t, network: no pitch",
    )


def test_figures_summaries_and_notes(world: Path, quick: None) -> None:
    said, notes = run(world, "--json")
    document = json.loads(said)
    systems = ["voice", "network", "g722", "griffin-lim", "codec", "reference"]
    assert [clip["system"] for clip in document["clips"]] == 3 * systems
    names = list(dict.fromkeys(clip["name"] for clip in document["clips"]))
    assert names == ["ann/a", "bob/short", "bob/silent"]
    keys = [measure["key"] for measure in document["measures"]]
    assert "dnsmos" not in keys
    assert ["dnsmos", "pip install 'gru-audio[eval]'"] in document["missing"]
    whole, short, silent = (document["clips"][6 * i]["figures"] for i in range(3))
    assert list(whole.keys() ^ keys) == []
    assert {"pesq", "stoi", "estoi"}.isdisjoint(short)
    assert silent.keys() == {"times_real_time", "nll_bits", "voicing_error_percent", "silence_db", "f0_cents"}
    assert document["summary"]["voice"]["pesq"] == dict.fromkeys(
        ("mean", "median", "worst"), whole["pesq"]
    ) | {"n_clips": 1}
    assert document["by_speaker"]["voice"]["bob"]["silence_db"]["n_clips"] == 2
    pesq = {system: document["summary"][system]["pesq"]["mean"] for system in systems[:5]}
    assert pesq["codec"] > pesq["voice"] != pesq["network"]
    assert not document["clips"][5]["figures"]
    assert re.search(r"broken\.wav: .*Format not recognised", notes)
    assert "bob/short: 0.12 s: PESQ takes at least 0.25 s; take a longer clip\n" in notes
    assert notes.count("bob/silent") == 1
    assert "bob/silent: silent, so that nothing is compared with it\n" in notes
    assert "dnsmos is left out; pip install 'gru-audio[eval]'" in notes


def test_a_table_in_a_pipe(world: Path, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anchors, "ffmpeg_path", lambda: None)
    monkeypatch.setitem(sys.modules, "pesq", None)
    said, notes = run(world, "--clips", "2", "--seed", "3", "--engine", "float32")
    lines = said.splitlines()
    assert "engine float32, temperature 0.8, seed 3: 2 clips of" in lines[0]
    assert lines[2].split()[:3] == ["system", "STOI", "ESTOI"]
    starts = [line.split("  ")[0] for line in lines[3:9]]
    assert starts[:3] == ["voice, mean", "voice, median", "voice, worst"]
    assert starts[3:] == ["network, mean", "griffin-lim, mean", "codec, mean"]
    assert [line.split()[0] for line in lines[-2:]] == ["ann", "bob"]
    assert "g722 is left out; apt-get install ffmpeg" in notes
    assert "\x1b" not in said
    assert not run(world, "--clips", "1", "--quiet")[1]


def test_the_report_gets_every_systems_audio(
    world: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = list[Any]()

    def write_report(
        folder: Path, evaluation: Evaluation, audio: dict[Any, Floats], sample_rate_hz: int
    ) -> Path:
        given.extend((evaluation, audio, sample_rate_hz))
        return folder / "index.html"

    report = types.ModuleType("gru_audio.evaluation.report")
    vars(report)["write_report"] = write_report
    monkeypatch.setitem(sys.modules, "gru_audio.evaluation.report", report)
    _, notes = run(world, "--clips", "1", "-o", str(world / "page"))
    evaluation, audio, rate = given
    assert "index.html" in notes
    assert list(audio) == [("ann/a", system) for system in SYSTEMS]
    assert {samples.shape for samples in audio.values()} == {(10_000,)}
    assert rate == RATE
    assert evaluation.clips[0].duration_s == 10_000 / RATE


def test_the_speed_is_timed_alone_and_progress_ends(quick: None, speech: Floats) -> None:
    reports = list[Progress]()
    clip = Original("one", "", speech[:8_000], 16_000)
    found = evaluate(random_voice(small_config()), [clip], jobs=1, progress=reports.append)
    assert found.clips[0].figures["times_real_time"] > 0.1
    assert [report.done for report in reports] == [0, 0.5, 1]
    assert "times_real_time" not in found.clips[1].figures
    assert found.settings["engine"] in ("int8", "float32")


def test_a_voice_that_only_torch_runs(quick: None, speech: Floats) -> None:
    clip = Original("one", "", speech[16_000:17_000], 16_000)
    found = evaluate(random_voice(small_config(cell="lstm")), [clip], jobs=1)
    assert "nll_bits" in dict(found.missing)
    assert found.settings["engine"] == "torch"


def test_summaries() -> None:
    measures = (
        Measure("a", "A", "", True, ""),
        Measure("b", "B", "dB", False, ""),
        Measure("c", "C", "", None, ""),
    )
    clips = tuple(
        ClipResult(str(i), speaker, "voice", {"a": a, "c": c}, 1.0)
        for i, (speaker, a, c) in enumerate([("x", 1.0, -5.0), ("x", 2.0, 1.0), ("y", 6.0, 4.0)])
    )
    found = Evaluation({}, measures, (), clips)
    assert found.summary("voice") == {
        "a": MeasureSummary(3.0, 2.0, 1.0, 3),
        "c": MeasureSummary(0.0, 1.0, -5.0, 3),
    }
    assert found.by_speaker("voice")["y"] == {
        "a": MeasureSummary(6.0, 6.0, 6.0, 1),
        "c": MeasureSummary(4.0, 4.0, 4.0, 1),
    }
    assert (found.systems, found.speakers) == (["voice"], ["x", "y"])
    assert found.summary("codec") == {}
