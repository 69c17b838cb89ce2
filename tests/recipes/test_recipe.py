"""The bundled voice's recipe: what it gathers and leaves out, that it goes on where it was, and the voice's card."""

import importlib
import json
import re
import shutil
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from support.trained import make_dataset, run_to_end

from gru_audio.config import load_config
from gru_audio.errors import DatasetError, GruAudioError
from gru_audio.signal.audio_file.reading import read_audio
from gru_audio.synthesis.vocoder import Vocoder
from gru_audio.voice.voice import load_voice

RECIPE = Path(__file__).parents[2] / "recipes" / "debian-voices"
RATE_HZ = 22_050


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """One of the recipe's scripts, which import each other by name, as they do when they are run."""
    monkeypatch.syspath_prepend(RECIPE)
    return importlib.import_module(name)


def buzz(seconds: float, rate_hz: int = RATE_HZ, level: float = 0.1, top_hz: float = 7800) -> NDArray[Any]:
    """A vowel of a sort: harmonics of 140 Hz up to a limit, in a little noise."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    harmonics = range(1, int(min(top_hz, rate_hz / 2) // 140))
    wave = sum(np.sin(2 * np.pi * 140 * k * t + k * k) / k for k in harmonics)
    noise = np.random.default_rng(0).normal(0, 1e-5, t.size) if top_hz > 7000 else 0
    return np.asarray(level * wave / np.sqrt(np.mean(np.square(wave))) + noise)


def silence(seconds: float) -> NDArray[Any]:
    return np.zeros(round(seconds * RATE_HZ))


def write(path: Path, audio: NDArray[Any], rate_hz: int = RATE_HZ) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, audio, rate_hz, subtype="FLOAT")
    return path


@pytest.fixture
def clips(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return script("clips", monkeypatch)


@pytest.mark.parametrize(
    ("reason", "audio", "rate_hz"),
    [
        ("", buzz(0.5), RATE_HZ),
        ("rate", buzz(0.5, 8_000), 8_000),
        ("clipped", np.clip(buzz(0.5, level=0.6), -1, 1), RATE_HZ),
        ("short", buzz(0.2), RATE_HZ),
        ("short", silence(1.0), RATE_HZ),
        ("short", silence(0.0), RATE_HZ),
        ("narrow", buzz(0.5, top_hz=4000), RATE_HZ),
        ("unvoiced", np.random.default_rng(0).normal(0, 0.1, 11_025), RATE_HZ),
    ],
)
def test_what_is_no_clean_speech_is_left_out(
    clips: ModuleType, tmp_path: Path, reason: str, audio: NDArray[Any], rate_hz: int
) -> None:
    piece = clips.chosen(write(tmp_path / "a.wav", audio, rate_hz), min_voiced=0.2)
    assert piece.reason == reason
    assert bool(piece.audio.size) == (reason == "")


def test_the_louder_channel_is_taken_unless_both_are_the_same(clips: ModuleType) -> None:
    left, right = buzz(0.1).astype(np.float32), 2 * buzz(0.1, top_hz=6000).astype(np.float32)
    np.testing.assert_array_equal(clips.one_channel(np.stack([left, right], 1)), right)
    np.testing.assert_array_equal(clips.one_channel(np.stack([left, left], 1)), left)


@pytest.mark.parametrize("level", [0.003, 0.1, 0.3])
def test_speech_has_one_level_whatever_the_pauses(clips: ModuleType, tmp_path: Path, level: float) -> None:
    speech = np.concatenate([buzz(0.6, level=level), silence(2), buzz(0.6, level=level)])
    for piece in (clips.chosen(write(tmp_path / "a.wav", speech)), clips.whole(tmp_path / "a.wav")):
        spoken = piece.audio[1600:8000]
        assert 20 * np.log10(np.sqrt(np.mean(spoken**2))) == pytest.approx(clips.LEVEL_DBFS, abs=0.3)
        assert piece.active_s == pytest.approx(1.2, abs=0.1)


def test_a_high_peak_lowers_the_level(clips: ModuleType, tmp_path: Path) -> None:
    speech = buzz(1.0, level=0.01)
    speech[RATE_HZ // 2 : RATE_HZ // 2 + 20] = 0.9
    piece = clips.chosen(write(tmp_path / "a.wav", speech))
    assert np.abs(piece.audio).max() == pytest.approx(10 ** (clips.PEAK_DBFS / 20), rel=1e-3)


def test_pauses_are_shortened_in_the_new_speakers_clips_only(clips: ModuleType, tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", np.concatenate([silence(1), buzz(1), silence(2), buzz(1), silence(1)]))
    assert clips.chosen(path).audio.size / 16_000 == pytest.approx(2 + 0.3 + 2 * 0.1, abs=0.06)
    assert clips.whole(path).audio.size / 16_000 == pytest.approx(6, abs=0.01)


def test_short_pieces_are_joined_in_order(clips: ModuleType) -> None:
    def piece(seconds: float) -> Any:
        return clips.Piece("", np.ones(round(16_000 * seconds), np.float32), seconds, "")

    given = [("a", 0.8), ("b", 2.0), ("c", 0.9), ("d", 0.7), ("e", 0.9), ("f", 0.5)]
    made = list(clips.joined((name, piece(seconds)) for name, seconds in given))
    assert [name for name, _ in made] == ["b", "a", "f"]
    seconds = {name: audio.size / 16_000 for name, audio in made}
    assert seconds == pytest.approx({"b": 2.0, "a": 0.8 + 0.9 + 0.7 + 0.9 + 3 * 0.15, "f": 0.5})
    audio = dict(made)["a"]
    assert not audio[round(0.8 * 16_000) : round(0.95 * 16_000)].any()


@pytest.fixture
def prepare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """With two unpacked packages of ours in place of Debian's."""
    module, cache = script("prepare", monkeypatch), tmp_path / "cache"
    for name in ("hello", "digits/1", "bye", "silence/1"):
        write(cache / f"old_1.0/sounds/{name}.wav", buzz(0.4 + len(name) / 10))
    (cache / "old_1.0/sounds/empty.wav").touch()
    for name in "abc":
        write(cache / f"games_2.0/sounds/xx/{name}.wav", buzz(0.5 + ord(name) / 1000))
    shutil.copy(cache / "games_2.0/sounds/xx/b.wav", cache / "games_2.0/sounds/xx/copy-of-b.wav")
    write(cache / "games_2.0/sounds/xx/telephone.wav", buzz(1, 8_000), 8_000)
    write(cache / "games_2.0/sounds/judge/a.wav", buzz(1))
    about = script("speakers", monkeypatch)
    packages = {
        "old": about.Package("1.0", "CC BY 3.0", "cc-by-sa", "sounds", "A"),
        "games": about.Package("2.0", "GPL-2 or later", "gpl-3", "sounds", "B"),
    }
    speakers = (
        about.Speaker("one", "old", "", r"(?!silence/).*\.wav", "Esperanto", is_old=True),
        about.Speaker("two", "games", "", r"(xx|judge)/.*\.wav", "Volapük"),
    )
    for each in (module, script("licences", monkeypatch)):
        monkeypatch.setattr(each, "PACKAGES", packages)
        monkeypatch.setattr(each, "SPEAKERS", speakers)
    monkeypatch.setattr(module, "NEVER_TRAIN", {"games": "judge/.*"})
    monkeypatch.setattr(sys, "argv", command(tmp_path / "corpus", cache, "gpl-3"))
    return module


def command(corpus: Path, cache: Path, licence: str) -> list[str]:
    return ["prepare.py", str(corpus), "--licence", licence, "--cache", str(cache), "--jobs", "1"]


def gathered(folder: Path) -> list[str]:
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name[0] != "."
    )


ONE = ["one/bye.flac", "one/digits/1.flac", "one/hello.flac"]


def test_it_gathers_speech(prepare: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An old speaker's clips one to one, a new one's joined; no silence, copies or telephone."""
    prepare.main()
    assert gathered(tmp_path / "corpus") == ["ATTRIBUTION.txt", *ONE, "two/xx/a.flac"]
    made, rate_hz = read_audio(tmp_path / "corpus/two/xx/a.flac")
    assert rate_hz == 16_000
    assert made.size > 3 * 0.5 * rate_hz
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "one 4 3 3 0.0 1 empty" in lines
    assert "two 5 3 1 0.0 1 copy, 1 rate" in lines
    assert (tmp_path / "corpus/ATTRIBUTION.txt").read_text() == (
        "GPL-3, for its speech is under GPL-2 or later, CC BY-SA 3.0, CC BY 3.0 and BSD-like: "
        "A (old 1.0: CC BY 3.0); B (games 2.0: GPL-2 or later)\n"
    )


def test_a_licence_takes_the_packages_that_may_go_into_it(
    prepare: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", command(tmp_path / "corpus", tmp_path / "cache", "cc-by-sa"))
    prepare.main()
    assert gathered(tmp_path / "corpus") == ["ATTRIBUTION.txt", *ONE]
    (tmp_path / "corpus/two").mkdir()
    with pytest.raises(SystemExit, match="two: is there, and needs --licence gpl-3"):
        prepare.main()


def test_it_goes_on(prepare: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped within a speaker, it has the others whole; the end is the same bytes as of one run."""
    corpus, write_audio = tmp_path / "corpus", prepare.write_audio

    def write_until_two(path: Path, *given: Any) -> None:
        if "two" in path.parts:
            raise KeyboardInterrupt
        write_audio(path, *given)

    monkeypatch.setattr(prepare, "write_audio", write_until_two)
    with pytest.raises(SystemExit, match="130"):
        prepare.main()
    assert gathered(corpus / "one") == [name.removeprefix("one/") for name in ONE]
    assert not (corpus / "two").exists()
    before = (corpus / "one/bye.flac").stat().st_mtime_ns
    monkeypatch.setattr(prepare, "write_audio", write_audio)
    prepare.main()
    assert (corpus / "one/bye.flac").stat().st_mtime_ns == before
    monkeypatch.setattr(sys, "argv", command(tmp_path / "again", tmp_path / "cache", "gpl-3"))
    prepare.main()
    first, again = (
        {p.relative_to(f): p.read_bytes() for p in f.rglob("*") if p.is_file()}
        for f in (corpus, tmp_path / "again")
    )
    assert first == again


def test_what_another_made_is_not_touched(prepare: ModuleType, tmp_path: Path) -> None:
    theirs = write(tmp_path / "corpus/one/theirs.wav", buzz(1))
    with pytest.raises(SystemExit, match="not made by this recipe"):
        prepare.main()
    assert theirs.exists()


def test_a_package_without_its_files_is_named(
    prepare: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "SPEAKERS", [prepare.SPEAKERS[0]._replace(folder="nowhere")])
    with pytest.raises(SystemExit, match="no files of one; is old whole"):
        prepare.main()
    assert not (tmp_path / "corpus").exists()


NEVER = (
    "tuxpaint-stamps-default usr/share/tuxpaint/stamps/animals/birds/duck_desc.ogg",
    "tuxpaint-stamps-default usr/share/tuxpaint/stamps/animals/birds/duck_desc_es.ogg",
    "klettres-data usr/share/klettres/en_GB/alpha/a.ogg",
    "klettres-data usr/share/klettres/uk/syllab/a.ogg",
    "klettres-data usr/share/klettres/ml/alpha/a.ogg",
    "ktuberling-data usr/share/ktuberling/sounds/lt/a.ogg",
    "ktuberling-data usr/share/ktuberling/sounds/uk/a.ogg",
    "ktuberling-data usr/share/ktuberling/sounds/el/a.ogg",
    "ktuberling-data usr/share/ktuberling/sounds/ca/a.ogg",
    "ktuberling-data usr/share/ktuberling/sounds/sr@latin/a.ogg",
    "nexuiz-data usr/share/games/nexuiz/data/sound/player/marine/coms/attack.ogg",
    "megaglest-data usr/share/games/megaglest/techs/megapack/commondata/sounds/cow_ack1.wav",
    "kajongg usr/share/kajongg/voices/male2/b1.ogg",
)


@pytest.mark.parametrize("never", NEVER)
def test_judged_speakers_and_effects_never_train(
    never: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole packages of files with the judged one among them: no speaker takes it."""
    prepare, about = script("prepare", monkeypatch), script("speakers", monkeypatch)
    package, name = never.split()
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).touch()
    root = tmp_path / about.PACKAGES[package].root
    for speaker in about.SPEAKERS:
        if speaker.package == package:
            with pytest.raises(DatasetError, match="no files of"):
                prepare.tasks_of(root, [speaker])


def test_the_packages_kept_for_judging_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    about = script("speakers", monkeypatch)
    whole = {package for package, files in about.NEVER_TRAIN.items() if files == ".*"}
    assert {"pocketsphinx-testdata", "alsa-utils", "sound-theme-freedesktop", "gcin-voice"} <= whole
    assert not whole & set(about.PACKAGES)
    assert not [package for package in about.PACKAGES if package.startswith("fillets-ng")], "GPL-2 only"
    names = [speaker.name for speaker in about.SPEAKERS]
    assert len(set(names)) == len(names)
    assert {speaker.package for speaker in about.SPEAKERS} == set(about.PACKAGES)
    for speaker in about.SPEAKERS:
        re.compile(speaker.files)


APT = """#!/bin/sh
case "$3" in *=*) echo "E: no such version" >&2; exit 100;; esac
cp "{deb}" "$3_2%3a1.5_all.deb"
"""
DPKG = """#!/bin/sh
mkdir -p "$3/data" && cp "$2" "$3/data/data.pk3"
"""


def test_a_package_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At another version where its own is gone; unpacked, with the archive in it, and not installed."""
    packages = script("packages", monkeypatch)
    told: list[str] = []
    with zipfile.ZipFile(tmp_path / "game.deb", "w") as archive:
        archive.writestr("sound/a.ogg", "a")
        archive.writestr("maps/b.bsp", "b")
    for name, text in (("apt-get", APT.format(deb=tmp_path / "game.deb")), ("dpkg-deb", DPKG)):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(text)
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    folder, version = packages.unpacked("game", "2:1.4", tmp_path / "cache", told.append)
    assert version == "2:1.5"
    assert told == ["game: version 2:1.5 taken, where the recipe's figures are of 2:1.4"]
    assert gathered(folder) == ["data/sound/a.ogg"]
    (tmp_path / "bin/apt-get").write_text("#!/bin/sh\nexit 1\n")
    assert packages.unpacked("game", "2:1.4", tmp_path / "cache", told.append) == (folder, version)
    with pytest.raises(DatasetError, match="other: apt-get cannot download it"):
        packages.unpacked("other", "1", tmp_path / "cache", told.append)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["game_2:1.5"]


def test_its_plan_is_a_valid_one() -> None:
    config = load_config(RECIPE / "voice.toml")
    train = config.train
    assert train.pitch_handover_step < train.prune_start_step < train.prune_end_step < train.steps
    assert config.model.is_pruned


FIGURES = {"pesq": {"mean": 3.333, "worst": 3.06}, "estoi": {"mean": 0.9673}}


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    run_to_end(make_dataset(tmp_path, 90, 100, 110, 120), tmp_path / "run", "train.steps=1")
    paths = [str(tmp_path / name) for name in ("run", "evaluation.json", "voice.safetensors")]
    licences = script("licences", monkeypatch)
    known = licences.SPEAKERS[0]._replace(name="speaker0")  # the dataset's only one
    monkeypatch.setattr(licences, "SPEAKERS", (*licences.SPEAKERS, known))
    monkeypatch.setattr(sys, "argv", ["bundle.py", *paths])
    return script("bundle", monkeypatch)


def test_the_bundled_voice_tells_what_it_is(bundle: ModuleType, tmp_path: Path) -> None:
    evaluation = {"summary": {"voice": FIGURES}, "clips": [{"name": "a"}, {"name": "b"}, {"name": "b"}]}
    (tmp_path / "evaluation.json").write_text(json.dumps(evaluation))
    bundle.main()
    voice, trained = load_voice(tmp_path / "voice.safetensors"), load_voice(tmp_path / "run")
    card = voice.metadata["card"]
    assert (
        card["metrics"] == "means of 2 held-out clips, free-running: PESQ 3.33, ESTOI 0.967; worst PESQ 3.06"
    )
    assert card["attribution"].startswith(
        "Allison Smith (2003-2010), with Digium, Inc. (asterisk-core-sounds-en"
    )
    assert "Bill Kendrick" not in card["attribution"], "only those whose speech it heard"
    assert voice.metadata["licence"].startswith("CC BY-SA")
    assert voice.metadata["speakers"] == ["speaker0 (US English, woman)"]
    assert voice.config == trained.config
    assert (tmp_path / "voice.safetensors").stat().st_size < 0.7 * (
        tmp_path / "run/voice.safetensors"
    ).stat().st_size
    for name, tensor in trained.tensors.items():
        np.testing.assert_allclose(voice.tensors[name], tensor, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("text", ["", "{}", '{"summary": {"voice": {}}, "clips": []}', "[1]"])
def test_a_bad_evaluation_is_named(bundle: ModuleType, tmp_path: Path, text: str) -> None:
    (tmp_path / "evaluation.json").write_text(text)
    with pytest.raises(SystemExit, match=r"error: .*evaluation\.json: not what `gru-audio evaluate"):
        bundle.main()
    assert not (tmp_path / "voice.safetensors").exists()


def test_a_voice_is_shared_as_all_of_its_speech_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    licences = script("licences", monkeypatch)
    assert licences.shared_under(["ru-nsh", "mg-archer"]).startswith("CC BY-SA 3.0")
    assert licences.shared_under(["ru-nsh", "mg-archer", "tp-ro"]).startswith("GPL-3")
    assert licences.packages_of(["tp-ro", "ru-nsh", "tp-fr"]) == ["festvox-ru", "tuxpaint-stamps-default"]
    with pytest.raises(DatasetError, match="speaker nobody: not one of this recipe's"):
        licences.shared_under(["nobody"])


def test_the_tables_name_every_package_and_speaker(monkeypatch: pytest.MonkeyPatch) -> None:
    about = script("speakers", monkeypatch)
    credits, speakers = ((RECIPE / f"{name}.md").read_text() for name in ("ATTRIBUTION", "SPEAKERS"))
    for package, of in about.PACKAGES.items():
        assert f"| {package} {of.version} |" in credits
    named = [line.split(" | ")[:2] for line in speakers.splitlines()[6:]]
    assert named == [[f"| {speaker.name}", speaker.who] for speaker in about.SPEAKERS]


def test_four_samples_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The start that a voice of two samples a step gives to one of four: its weights, and room beside them."""
    convert = script("four_samples", monkeypatch).with_four_samples
    two = ("model.samples_per_step=2", "model.gru_size=32", "model.readout_size=16", "train.steps=2")
    run_to_end(make_dataset(tmp_path, 200, 220), tmp_path / "run", *two)
    voice = load_voice(tmp_path / "run")
    start = convert(voice, gru_size=48, readout_size=8, density=(0.25, 0.25, 0.5))
    assert (start.config.model.samples_per_step, start.config.model.gru_size) == (4, 48)
    recurrent = "sample_network.cell.weight_hh_l0"
    gates, old = start.tensors[recurrent].reshape(3, 48, 48), voice.tensors[recurrent].reshape(3, 32, 32)
    assert np.array_equal(gates[:, :32, :32], old)
    assert not gates[:, :32, 32:].any()
    audio = Vocoder(start, "float32").synthesize(
        np.full((4, start.config.mel.n_mels), -4, np.float32), seed=0
    )
    assert np.isfinite(audio).all()
    assert audio.any()
    with pytest.raises(GruAudioError, match="draws 4 samples a step; give one that draws 2"):
        convert(start)
