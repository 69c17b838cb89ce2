import base64
import html.parser
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from support.evaluations import CLIPS, HOSTILE, SAMPLE_RATE_HZ, SYSTEMS, small_evaluation

from gru_audio.errors import OutputError
from gru_audio.evaluation.report import write_report
from gru_audio.evaluation.results import Evaluation
from gru_audio.signal.audio import to_int16


class Markup(html.parser.HTMLParser):
    """What an HTML parser finds: elements with their attributes, and the text of scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag

    def handle_data(self, text: str) -> None:
        self.texts.append((self._inside, text))


def parsed(page: Path) -> Markup:
    markup = Markup()
    markup.feed(page.read_text(encoding="utf-8"))
    return markup


def data_of(page: Path) -> Any:
    text = page.read_text(encoding="utf-8")
    return json.loads(text.split('id="data">')[1].split("</script>")[0])


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(tmp_path_factory.mktemp("report") / "new", *small_evaluation(), SAMPLE_RATE_HZ)


def test_writes_one_file_named_index(page: Path) -> None:
    assert [path.name for path in page.parent.iterdir()] == ["index.html"]


def test_nothing_in_the_page_points_outside_it(page: Path) -> None:
    for tag, attributes in parsed(page).elements:
        assert tag not in {"img", "iframe", "object", "embed"}
        for name in ("src", "href", "action", "srcset", "data"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)
    style = next(text for tag, text in parsed(page).texts if tag == "style" and text.strip())
    assert "url(" not in style
    assert "@import" not in style


def test_a_clips_name_and_the_title_stay_text(page: Path) -> None:
    markup = parsed(page)
    assert sum(tag == "script" for tag, _ in markup.elements) == 2
    assert not any("onerror" in attributes for _, attributes in markup.elements)
    assert ("title", "Listening to <small>") in markup.texts
    assert data_of(page)["clips"][-1]["name"] == HOSTILE


def test_audio_goes_in_as_16_bit_flac(page: Path) -> None:
    _, audio = small_evaluation()
    for clip in data_of(page)["clips"]:
        assert tuple(clip["audio"]) == SYSTEMS
        for system, uri in clip["audio"].items():
            head, encoded = uri.split(",")
            assert head == "data:audio/flac;base64"
            decoded, rate = soundfile.read(io.BytesIO(base64.b64decode(encoded)), dtype="int16")
            assert rate == SAMPLE_RATE_HZ
            np.testing.assert_array_equal(decoded, to_int16(audio[clip["name"], system]))


def test_figures_are_the_evaluations(page: Path) -> None:
    evaluation, _ = small_evaluation()
    data = data_of(page)
    assert data["summary"]["voice"]["pesq"] == {"mean": pytest.approx(6.8 / 3), "worst": 1.2}
    assert data["by_speaker"]["voice"]["anna"]["silence_db"]["worst"] == pytest.approx(-3.2)
    assert data["summary"]["reference"] == {}
    assert data["voice"] == {**evaluation.voice, "loss": None}
    assert [clip["figures"]["voice"].get("pesq") for clip in data["clips"]] == [
        pesq for _, pesq, _ in CLIPS.values()
    ]
    assert (data["sort_measure"], data["sort_system"]) == ("pesq", "voice")


def test_the_same_evaluation_gives_the_same_page_and_another_another_id(page: Path, tmp_path: Path) -> None:
    evaluation, audio = small_evaluation()
    again = write_report(tmp_path, evaluation, audio, SAMPLE_RATE_HZ)
    assert again.read_bytes() == page.read_bytes()
    louder = {key: 2 * samples for key, samples in audio.items()}
    assert data_of(write_report(tmp_path, evaluation, louder, SAMPLE_RATE_HZ))["id"] != data_of(page)["id"]


def test_a_system_without_audio_is_left_out_of_the_clip(tmp_path: Path) -> None:
    evaluation, audio = small_evaluation()
    audio["best", "voice"] = np.zeros(0, np.float32)
    del audio["best", "g722"]
    clips = data_of(write_report(tmp_path, evaluation, audio, SAMPLE_RATE_HZ))["clips"]
    assert list(clips[2]["audio"]) == ["reference"]


def test_no_measures_and_no_clips_still_make_a_page(tmp_path: Path) -> None:
    data = data_of(write_report(tmp_path, Evaluation({}, (), (), ()), {}, SAMPLE_RATE_HZ))
    assert (data["clips"], data["sort_measure"], data["sort_system"]) == ([], "", "")


def test_a_folder_that_cannot_be_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "report").write_text("a file")
    with pytest.raises(OutputError, match=r"index\.html: cannot be written: .*; choose another place"):
        write_report(tmp_path / "report", *small_evaluation(), SAMPLE_RATE_HZ)


@pytest.mark.parametrize(
    ("voice", "called"),
    [
        ("/home/anna/runs/mine/voice.safetensors", "mine"),
        ("/home/anna/runs/mine", "mine"),
        ("/usr/lib/voices/debian-16k.safetensors", "debian-16k"),
        ("debian-16k", "debian-16k"),
    ],
)
def test_the_page_names_the_voice_without_the_path(tmp_path: Path, voice: str, called: str) -> None:
    evaluation, audio = small_evaluation()
    evaluation = replace(evaluation, settings={"voice": voice, "source": "/home/anna/clips", "seed": 0})
    page = write_report(tmp_path, evaluation, audio, SAMPLE_RATE_HZ)
    assert ("title", f"Listening to {called}") in parsed(page).texts
    assert data_of(page)["settings"] == {"voice": called, "source": "clips", "seed": 0}
    assert "/home/anna" not in page.read_text(encoding="utf-8")
