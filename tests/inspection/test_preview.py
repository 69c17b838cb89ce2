"""Terminal pictures and the preview command."""

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.text import Text
from typer.testing import CliRunner

from gru_audio.cli.preview import preview as preview_command
from gru_audio.config import MelConfig
from gru_audio.data.dataset import Dataset
from gru_audio.errors import AudioError, DatasetError, MelError
from gru_audio.inspection.facts import AudioFacts, MelFacts
from gru_audio.inspection.preview import PitchFacts, audio_picture, audio_words, display_mel, header
from gru_audio.inspection.terminal_plot import duration_text, plot_columns, spectrogram, waveform
from gru_audio.signal.mel import from_linear, log_mel, silent_frames

Floats = NDArray[np.float32]
Run = Callable[..., Any]  # arguments to typer's Result

MARGIN = 6
DENSITIES = " .:-=+*#%@"
BRIGHTEST = "#fcfdbf"


def tone(frequency_hz: float, duration_s: float = 1.0, rate_hz: int = 16_000, peak: float = 0.5) -> Floats:
    time_s = np.arange(round(duration_s * rate_hz)) / rate_hz
    return (peak * np.sin(2 * np.pi * frequency_hz * time_s)).astype(np.float32)


def buzz(pitch_hz: float, duration_s: float = 1.0, rate_hz: int = 16_000) -> Floats:
    """Ten harmonics, a pitch that no tracker can miss."""
    harmonics = np.array([tone(pitch_hz * k, duration_s, rate_hz, 0.05) for k in range(1, 11)])
    return np.asarray(harmonics.sum(axis=0), np.float32)


def drawn(text: Text) -> list[str]:
    """The rows between title and time axis, without labels, filled up to one width."""
    rows = [line[MARGIN:] for line in text.plain.split("\n")[1:-1]]
    return [row.ljust(max(map(len, rows))) for row in rows]


def labels(text: Text) -> dict[str, int]:
    """Row of each label on the left."""
    return {
        line[:4].strip(): row for row, line in enumerate(text.plain.split("\n")[1:-1]) if line[:4].strip()
    }


def draw(audio: Floats, rate_hz: int, width: int, height: int, colour: bool) -> Text:
    facts = AudioFacts.of(audio, rate_hz, 1)
    return audio_picture("clip.wav", audio, facts, None, width, height, colour)


def ansi(text: Text, **options: Any) -> str:
    file = io.StringIO()
    Console(file=file, width=80, **options).print(text)
    return file.getvalue()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM", "TTY_COMPATIBLE", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm-256color")
    app = typer.Typer()
    app.command()(preview_command)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.wav"
    soundfile.write(path, buzz(200), 16_000, subtype="PCM_16")
    return path


# The waveform


def test_envelope_follows_loud_and_silent_halves() -> None:
    audio = np.concatenate([tone(440, 0.5), np.zeros(8_000, np.float32)])
    rows = drawn(waveform(audio, 16_000, MARGIN + 60, 10, colour=False))
    assert all(set(row[:30]) == {"#"} for row in rows[1:-1])
    assert all(set(row[31:]) == {" "} for row in rows[:3] + rows[5:])
    assert set(rows[3][31:]) == {"."}  # the middle line goes on
    assert set(rows[4][31:]) == {"'"}


def test_envelope_keeps_the_sign_and_every_click() -> None:
    audio = np.zeros(600 * 16_000, np.float32)
    audio[400 * 16_000] = 0.99
    rows = drawn(waveform(audio, 16_000, MARGIN + 60, 10, colour=False))
    assert [row.find("#") for row in rows] == [40, 40, 40, 40, -1, -1, -1, -1]


def test_waveform_scale_holds_the_peak() -> None:
    marks = labels(waveform(tone(440, peak=0.1), 16_000, 80, 18, colour=False))
    assert list(marks) == ["-18", "-24", "-30"]  # of -20 dBFS; the last of equal labels counts
    assert marks["-18"] == 15


def test_waveform_stretches_few_samples() -> None:
    rows = drawn(waveform(np.array([0.5, -0.5], np.float32), 16_000, MARGIN + 40, 4, colour=False))
    assert rows == ["#" * 20 + "." * 20, "'" * 20 + "#" * 20]


def test_clipped_columns_are_red() -> None:
    audio = np.concatenate([tone(100, 0.5, peak=1.0), tone(100, 0.5, peak=0.9)])
    reds = [
        span.start
        for span in waveform(audio, 16_000, 80, 10, colour=True).spans
        if "#ff2020" in str(span.style)
    ]
    text = waveform(audio, 16_000, 80, 10, colour=True).plain
    columns = {start - text.rfind("\n", 0, start) - 1 - MARGIN for start in reds}
    assert columns
    assert max(columns) <= plot_columns(80) // 2


# The spectrogram


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 22_050, 48_000, 96_000])
@pytest.mark.parametrize("khz", ["0.5", "1", "2"])
def test_a_tone_is_brightest_in_its_row(rate_hz: int, khz: str) -> None:
    mel, config = display_mel(tone(1000 * float(khz), rate_hz=rate_hz), rate_hz, 60)
    text = spectrogram(mel, config, MARGIN + 60, 42, colour=False)
    brightness = [sum(map(DENSITIES.index, row)) for row in drawn(text)]
    assert abs(int(np.argmax(brightness)) - labels(text)[khz]) <= 1


def test_a_colour_tone_is_brightest_in_its_row() -> None:
    mel, config = display_mel(tone(1000), 16_000, 60)
    text = spectrogram(mel, config, MARGIN + 60, 22, colour=True)
    first = next(span.start for span in text.spans[20:] if BRIGHTEST in str(span.style))
    assert text.plain.count("\n", 0, first) - 1 == labels(text)["1"]


def test_low_frequencies_are_at_the_bottom() -> None:
    mel, config = display_mel(tone(100), 16_000, 60)
    rows = drawn(spectrogram(mel, config, MARGIN + 60, 22, colour=False))
    assert "@" in rows[-1]
    assert not rows[0].strip()


def test_a_long_clip_is_averaged_in_power() -> None:
    config = MelConfig()
    linear = np.full((60_000, 80), 1e-5, np.float32)
    linear[:30_000:2] = 1.0  # every other frame: its mean power is 3 dB less
    linear[45_000] = 1.0  # one among 1000: 30 dB less
    row = drawn(spectrogram(from_linear(linear, config), config, MARGIN + 60, 5, colour=False))[0]
    assert row[:30] == "@" * 30
    assert row[30:].rstrip() == " " * 15 + DENSITIES[int((1 - 27 / 80) * 10)]  # of a range of 80 dB


def test_short_clips_have_a_frame_for_each_column() -> None:
    for duration_s in (0.05, 1.0, 20.0):
        audio = tone(440, duration_s)
        mel, config = display_mel(audio, 16_000, 74)
        assert len(mel) >= 74
        assert 0 <= len(mel) * config.hop_samples - audio.size < config.hop_samples


def test_a_ten_minute_clip_stays_small() -> None:
    mel, _ = display_mel(np.zeros(600 * 8_000, np.float32), 8_000, 74)
    assert len(mel) <= 24_000


def test_display_mel_resamples_for_a_contract() -> None:
    mel, config = display_mel(tone(1000, rate_hz=48_000), 48_000, 74, MelConfig())
    assert config == MelConfig()
    assert mel.shape == (80, 80)


# The whole picture


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("width", [20, 33, 80, 200])
@pytest.mark.parametrize("n_samples", [0, 1, 2, 37, 16_000])
def test_no_line_is_too_wide_and_no_picture_too_high(n_samples: int, width: int, colour: bool) -> None:
    text = draw(tone(440)[:n_samples], 16_000, width, 24, colour)
    lines = text.split("\n", allow_blank=True)
    assert max(line.cell_len for line in lines) <= width
    assert len(lines) <= 24


@pytest.mark.parametrize("rate_hz", [1_000, 8_000, 48_000, 192_000])
def test_silence_is_dark_at_any_rate(rate_hz: int) -> None:
    lines = draw(np.zeros(rate_hz, np.float32), rate_hz, 80, 24, colour=False).plain.split("\n")
    assert "silent" in lines[0]
    start = next(index for index, line in enumerate(lines) if "kHz" in line)
    assert not any(line[MARGIN:].strip() for line in lines[start + 1 : -1])


def test_both_time_axes_agree() -> None:
    for n_samples in (1, 1_003, 33_333):
        lines = draw(tone(440, 3)[:n_samples], 16_000, 80, 24, colour=False).plain.split("\n")
        axes = [line for line in lines if line.startswith(("   s", "  ms"))]
        assert len(axes) == 2
        assert axes[0] == axes[1]


def test_time_labels_stand_at_their_times() -> None:
    axis = waveform(tone(440, 4.0), 16_000, MARGIN + 80, 6, colour=False).plain.split("\n")[-1]
    assert axis == "   s  " + "".join(f"|{half / 2:.1f}".ljust(10) for half in range(8)).rstrip()


def test_durations_are_read_in_the_unit_that_suits_them() -> None:
    shown = [duration_text(duration_s) for duration_s in (0, 0.0123, 0.1, 59.5, 60, 3_599, 3_600, 9_000)]
    assert shown == ["0.00 s", "12.3 ms", "0.10 s", "59.50 s", "1.0 min", "60.0 min", "1.00 h", "2.50 h"]


def test_colours_only_with_colour() -> None:
    audio = buzz(200)
    coloured = ansi(
        draw(audio, 16_000, 80, 24, True), force_terminal=True, color_system="truecolor", no_color=False
    )
    plain = ansi(
        draw(audio, 16_000, 80, 24, False), force_terminal=True, color_system="truecolor", no_color=False
    )
    assert "\x1b[38;2;" in coloured
    assert "▀" in coloured
    assert "\x1b" not in plain
    assert plain.isascii()


# The figures


def test_figures_of_audio() -> None:
    figures = AudioFacts.of(tone(200, peak=0.5), 16_000, 2)
    assert figures.duration_s == 1.0
    assert figures.n_channels == 2
    assert figures.peak_dbfs == pytest.approx(-6.02, abs=0.01)
    assert figures.rms_dbfs == pytest.approx(-9.03, abs=0.01)
    assert figures.clipped_samples == 0


@pytest.mark.parametrize("rate_hz", [4_000, 16_000, 96_000])
def test_pitch_does_not_depend_on_the_rate(rate_hz: int) -> None:
    figures = PitchFacts.of(buzz(160, rate_hz=rate_hz), rate_hz)
    assert figures.pitch_hz == pytest.approx(160, rel=0.02)
    assert figures.voiced_fraction is not None
    assert figures.voiced_fraction > 0.8


def test_clipped_samples_are_counted_in_both_directions() -> None:
    audio = np.array([1.0, -1.0, 0.5, 32_767 / 32_768, 1.2, 0.0], np.float32)
    assert AudioFacts.of(audio, 16_000, None).clipped_samples == 4


@pytest.mark.parametrize("n_samples", [0, 1, 16_000])
def test_silence_has_no_level_and_no_pitch(n_samples: int) -> None:
    silence = np.zeros(n_samples, np.float32)
    facts, pitch = AudioFacts.of(silence, 16_000, 1), PitchFacts.of(silence, 16_000)
    assert (facts.peak_dbfs, facts.rms_dbfs, pitch.pitch_hz) == (None, None, None)
    assert audio_words(facts, pitch)[-1] == ("silent" if n_samples else "no samples")


def test_figures_of_a_mel() -> None:
    config = MelConfig()
    figures = MelFacts.of(np.concatenate([silent_frames(3, config), np.ones((1, 80), np.float32)]), config)
    assert figures.duration_s == pytest.approx(4 * 200 / 16_000)
    assert figures.level_min == pytest.approx(np.log(1e-5))
    assert figures.level_max == 1.0
    assert figures.level_mean == pytest.approx((3 * np.log(1e-5) + 1) / 4)
    assert MelFacts.of(silent_frames(0, config), config).level_min is None


def test_header_wraps_between_figures_and_cuts_a_long_name() -> None:
    audio = tone(440)
    told = audio_words(AudioFacts.of(audio, 16_000, 1), PitchFacts.of(audio, 16_000))
    lines = header("話" * 60 + ".wav", told, 40, colour=True).split("\n")
    assert max(line.cell_len for line in lines) <= 40
    assert "16000 Hz" in lines[1].plain


# The command


def test_a_name_cannot_drive_the_terminal(run: Run, tmp_path: Path) -> None:
    for name in (b"a\x1b[2J\nb.wav", b"caf\xe9.wav"):
        path = tmp_path / os.fsdecode(name)
        soundfile.write(tmp_path / "a.wav", np.stack([buzz(200)] * 2, axis=1), 16_000)
        (tmp_path / "a.wav").rename(path)
        result = run(path)
        assert result.exit_code == 0, result.exception
        want = "a\\x1b[2J b.wav" if b"a\x1b" in name else "caf\\xe9.wav"
        assert result.stdout.startswith(f"{want}   1.00 s   16000 Hz   2 channels")
        assert json.loads(run(path, "--json").stdout)["name"] == want


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not on PATH; it writes the stream")
def test_a_streamed_flac(run: Run, clip: Path) -> None:
    command = ["ffmpeg", "-v", "error", "-i", str(clip), "-f", "flac", "-"]
    streamed = clip.with_name("streamed.flac")
    streamed.write_bytes(subprocess.run(command, check=True, capture_output=True).stdout)
    assert run(streamed).stdout.startswith("streamed.flac   1.00 s   16000 Hz   mono")


def test_a_pipe_gets_plain_ascii(run: Run, clip: Path) -> None:
    result = run(clip)
    assert result.exit_code == 0
    assert result.stdout.isascii()
    assert "\x1b" not in result.stdout
    assert "peak -" in result.stdout
    assert "pitch 200 Hz" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_colour_unless_no_color_or_dumb(run: Run, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLORTERM", "truecolor")
    assert "\x1b[38;2;" in run(clip).stdout
    monkeypatch.setenv("NO_COLOR", "1")
    assert run(clip).stdout.isascii()
    assert "\x1b" not in run(clip).stdout
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b" not in run(clip).stdout


def test_width_and_height_are_kept(run: Run, clip: Path) -> None:
    lines = run(clip, "--width", 50, "--height", 20).stdout.splitlines()
    assert len(lines) == 20
    assert 40 < max(map(len, lines)) <= 50


def test_width_is_at_most_the_terminals(run: Run, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    lines = run(clip, "--width", 120, "--height", 20).stdout.splitlines()
    assert 50 < max(len(Text.from_ansi(line)) for line in lines) <= 60


def test_stereo_is_shown_as_mono(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "stereo.flac"
    soundfile.write(path, np.stack([tone(440), tone(440)], axis=1), 16_000)
    assert "2 channels as mono" in run(path).stdout


def reject_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


@pytest.mark.parametrize("n_samples", [1, 16_000])
def test_json_is_strict(run: Run, tmp_path: Path, n_samples: int) -> None:
    path = tmp_path / "silence.wav"
    soundfile.write(path, np.zeros(n_samples), 16_000)
    result = run(path, "--json")
    figures = json.loads(result.stdout, parse_constant=reject_constant)
    assert figures["kind"] == "audio"
    assert figures["duration_s"] == n_samples / 16_000
    assert figures["peak_dbfs"] is None


def test_a_mel_file(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "mel.npy"
    np.save(path, log_mel(tone(1000), MelConfig()))
    result = run(path)
    assert result.exit_code == 0
    assert "80 frames of 200 samples" in result.stdout
    assert "waveform" not in result.stdout
    assert "speech-16k, --mel names another" in result.stderr
    assert run(path, "--quiet").stderr == ""
    figures = json.loads(run(path, "--json", "--mel", "hifigan-22k").stdout)
    assert figures["kind"] == "mel"
    assert figures["duration_s"] == pytest.approx(80 * 256 / 22_050)


def test_a_mel_that_states_its_contract(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "mel.npz"
    contract = MelConfig(hop_samples=400).model_dump_json()
    np.savez(path, mel=log_mel(tone(1000), MelConfig(hop_samples=400)), mel_config=contract)
    result = run(path)
    assert "40 frames of 400 samples" in result.stdout
    assert result.stderr == ""
    assert "left aside" in run(path, "--mel", "speech-16k").stderr


def test_a_mel_cannot_be_played(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "mel.npy"
    np.save(path, log_mel(tone(1000), MelConfig()))
    result = run(path, "--play")
    assert isinstance(result.exception, AudioError)
    assert "gru-audio synthesize" in str(result.exception)
    assert "spectrogram" in result.stdout


def test_a_damaged_mel_is_an_error(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "mel.npy"
    np.save(path, np.full((4, 80), np.nan, np.float32))
    assert isinstance(run(path).exception, MelError)


def test_clips_of_a_dataset(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = [SimpleNamespace(name=name) for name in ("anna_001", "anna_002", "bert_001")]
    pcm = {"anna_001": np.zeros(16_000, np.int16), "anna_002": np.full(8_000, 16_384, np.int16)}
    dataset = SimpleNamespace(clips=lambda: clips, mel=MelConfig(), audio=lambda clip: pcm[clip.name])
    monkeypatch.setattr(Dataset, "open", lambda path: dataset)
    assert json.loads(run(tmp_path, "--json").stdout)["name"] == "anna_001"
    second = json.loads(run(tmp_path, "--json", "--clip", "anna_002").stdout)
    assert second["duration_s"] == 0.5
    assert second["peak_dbfs"] == pytest.approx(-6.02, abs=0.01)
    unknown = run(tmp_path, "--clip", "ana_002").exception
    assert isinstance(unknown, DatasetError)
    assert "did you mean anna_002" in str(unknown)
    clips.clear()
    assert isinstance(run(tmp_path).exception, DatasetError)


def test_clip_needs_a_folder(run: Run, clip: Path) -> None:
    result = run(clip, "--clip", "a")
    assert result.exit_code == 2
    assert "not a folder" in " ".join(result.stderr.replace("│", " ").split())


def test_svg_is_whole_and_in_colour(
    run: Run, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    target = tmp_path / "new" / "picture.svg"
    assert run(clip, "-o", target, "--json", "--quiet").exit_code == 0
    text = target.read_text(encoding="utf-8")
    assert ElementTree.fromstring(text).tag.endswith("svg")
    assert BRIGHTEST in text


# --play, with stand-ins for sounddevice


def stand_in(monkeypatch: pytest.MonkeyPatch, play: Callable[..., None]) -> ModuleType:
    module = ModuleType("sounddevice")
    module.PortAudioError = type("PortAudioError", (Exception,), {})  # type: ignore[attr-defined]
    module.play = play  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    return module


def test_play_plays_the_clip(run: Run, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    played: list[tuple[int, int, bool]] = []
    stand_in(monkeypatch, lambda audio, rate, blocking: played.append((audio.size, rate, blocking)))
    assert run(clip, "--play").exit_code == 0
    assert played == [(16_000, 16_000, True)]
    assert run(clip).exit_code == 0
    assert len(played) == 1


def test_play_without_sounddevice(run: Run, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    result = run(clip, "--play")
    assert result.exit_code == 1
    assert isinstance(result.exception, AudioError)
    assert "pip install 'gru-audio[play]'" in str(result.exception)
    assert "spectrogram" in result.stdout


def test_play_without_portaudio(
    run: Run, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')\n")
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert run(clip).exit_code == 0  # nothing imports it without --play
    result = run(clip, "--play")
    assert isinstance(result.exception, AudioError)
    assert "libportaudio2" in str(result.exception)


def test_play_without_a_device(run: Run, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise module.PortAudioError("Error querying\ndevice -1")

    module = stand_in(monkeypatch, fail)
    result = run(clip, "--play")
    assert isinstance(result.exception, AudioError)
    assert "Error querying device -1" in str(result.exception)
    assert "\n" not in str(result.exception)


def test_an_empty_clip_cannot_be_played(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "empty.wav"
    soundfile.write(path, np.zeros(0), 16_000)
    result = run(path, "--play")
    assert isinstance(result.exception, AudioError)
    assert "no samples" in str(result.exception)
