"""Names from outside: shown on one line that no terminal acts on, and fit for a file's name."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gru_audio.errors import AudioError, GruAudioError
from gru_audio.names import name_part, readable, shown


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("plain  name.wav", "plain  name.wav"),
        ("ünï/日本.wav", "ünï/日本.wav"),
        ("a\nb\r\n  c.wav", "a b c.wav"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("caf\udce9.wav", "caf\\xe9.wav"),
        ("\x9b2J", "\\x9b2J"),
        ("\u202ereversed", "\\u202ereversed"),
        ("\ud800", "\\ud800"),
        ("\U000e0001", "\\U000e0001"),
        ("[red]x[/red]", "[red]x[/red]"),
        ("a" * 255, "a" * 255),
        ("x/" + "a" * 300 + "/y", "x/" + "a" * 100 + "…" + "a" * 100 + "/y"),
    ],
)
def test_shown(name: str, wanted: str) -> None:
    assert shown(name) == wanted


@given(st.text(alphabet=st.characters(codec=None)))
def test_anything_can_be_shown(text: str) -> None:
    line = shown(text)
    assert line.isprintable() or not line
    assert line.encode().decode() == line
    assert shown(line) == line


@given(st.text(alphabet=st.characters(codec=None)), st.integers(1, 200))
def test_a_part_of_a_files_name(text: str, n_bytes: int) -> None:
    part = name_part(text, n_bytes)
    assert len(part.encode()) <= n_bytes
    assert "/" not in part
    assert "\0" not in part


def test_what_is_stored_is_utf8() -> None:
    assert readable("caf\udce9/\n") == "caf\\xe9/\n"


def test_an_error_is_one_line_whatever_is_in_it() -> None:
    error = AudioError("a\n\x1b[31m\udcff.wav: no such file")
    assert str(error) == "a \\x1b[31m\\xff.wav: no such file"
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, GruAudioError)
    assert str(again) == str(error)
