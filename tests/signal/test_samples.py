"""The bundled clips: usable as test material, and each one attributed."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

SAMPLES = Path(__file__).parents[2] / "samples"
CLIPS = sorted(SAMPLES.glob("*.flac"))
TABLE_ROW = re.compile(r"^\| `([^`|]+\.flac)` \|(.+)\|$", re.MULTILINE)
LICENCES = {"CC BY-SA 3.0", "CC BY 3.0", "BSD-like"}


def attribution() -> dict[str, list[str]]:
    """File name → cells of its row in ATTRIBUTION.md's first table."""
    text = (SAMPLES / "ATTRIBUTION.md").read_text(encoding="utf-8").split("\n## ", 1)[0]
    rows = TABLE_ROW.findall(text)
    assert len(rows) == len({name for name, _ in rows}), "a clip is listed twice"
    return {name: [cell.strip() for cell in cells.split("|")] for name, cells in rows}


def test_there_are_twelve_clips_two_a_speaker() -> None:
    speakers = Counter("-".join(path.name.split("-")[:2]) for path in CLIPS)

    assert len(CLIPS) == 12
    assert set(speakers.values()) == {2}
    assert len(speakers) == 6


def test_every_clip_is_attributed_and_every_attribution_has_its_clip() -> None:
    assert set(attribution()) == {path.name for path in CLIPS}


def test_nothing_unattributed_lies_in_the_folder() -> None:
    assert {path.name for path in SAMPLES.iterdir()} == {path.name for path in CLIPS} | {"ATTRIBUTION.md"}


@pytest.mark.parametrize("path", CLIPS, ids=lambda path: path.stem)
def test_attribution_names_package_path_licence_and_holder(path: Path) -> None:
    speaker, package, original, licence, holder, changes = attribution()[path.name]

    assert speaker
    assert re.fullmatch(r"[a-z0-9-]+ [0-9][^ ]*", package)  # Debian's name and version
    assert re.fullmatch(r"`/usr/share/[^`]+\.(g722|wav)`", original)
    assert licence in LICENCES
    assert re.match(r"20[0-9]{2}", holder)
    assert changes


@pytest.mark.parametrize("path", CLIPS, ids=lambda path: path.stem)
def test_clip_says_its_licence_in_its_tags(path: Path) -> None:
    _, package, original, licence, holder, _ = attribution()[path.name]

    with soundfile.SoundFile(path) as clip:
        assert clip.license.startswith(licence)
        assert clip.copyright == f"Copyright {holder}"
        assert package in clip.comment
        assert original.strip("`") in clip.comment


@pytest.mark.parametrize("path", CLIPS, ids=lambda path: path.stem)
def test_clip_is_16_khz_mono_16_bit_and_two_to_six_seconds(path: Path) -> None:
    clip = soundfile.info(path)

    assert (clip.format, clip.subtype) == ("FLAC", "PCM_16")
    assert (clip.samplerate, clip.channels) == (16_000, 1)
    assert 2.0 <= clip.duration <= 6.0


@pytest.mark.parametrize("path", CLIPS, ids=lambda path: path.stem)
def test_clip_is_neither_clipped_nor_silent(path: Path) -> None:
    audio, sample_rate = soundfile.read(path, dtype="float32")
    level_dbfs = 20 * np.log10(np.sqrt(np.mean(np.square(audio))))
    window = sample_rate // 100
    frames = audio[: len(audio) // window * window].reshape(-1, window)
    frame_levels = np.sqrt(np.mean(np.square(frames), axis=1))
    share_active = np.mean(frame_levels > 0.01 * frame_levels.max())

    assert 0.2 < np.abs(audio).max() < 0.95
    assert -30 < level_dbfs < -12
    assert share_active > 0.7
    assert abs(float(np.mean(audio))) < 0.01  # no offset


def test_the_clips_stay_small() -> None:
    assert sum(path.stat().st_size for path in CLIPS) < 2_000_000
