"""Documents of every wrong shape: one line, and never a traceback."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gru_audio.documents import Document, DocumentError, parse_json, parse_toml, read_text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 100_000, "deeper than 32 levels"),
        ('{"a":' * 100_000, "deeper than 32 levels"),
        ("[" * 40 + "]" * 40, "deeper than 32 levels"),
        ("1e999", "holds 1e999, which is no finite number"),
        ('{"a": [-1e999]}', "holds -1e999"),
        ("NaN", "holds NaN"),
        ("[Infinity]", "holds Infinity"),
        ("9" * 5_000, "an integer of 5000 digits, 999999999…"),
        ("-" + "9" * 19, "an integer of 20 digits"),
        ('{"a": 1', "is not JSON"),
        ("", "is not JSON"),
        ("\x00", "is not JSON"),
    ],
)
def test_json_past_a_bound(text: str, says: str) -> None:
    for given_text in (text, text.encode()):
        with pytest.raises(DocumentError) as caught:
            parse_json(given_text)
        assert says in str(caught.value)
        assert len(str(caught.value)) < 200


def test_json_bytes_that_are_no_text() -> None:
    with pytest.raises(DocumentError, match="is not JSON"):
        parse_json(b'{"a": "\xff"}')


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a=" + "[" * 100_000, "deeper than 32 levels"),
        ("a=" + "{b=" * 3_000, "deeper than 32 levels"),
        ("[" + "a." * 3_000 + "a]", "deeper than 32 levels"),
        ("a." * 100_000 + "a=1", "deeper than 32 levels"),
        ("[" + '\'a\' . "b\\"".' * 50_000 + "a]", "deeper than 32 levels"),
        ("a=" + "9" * 5_000, "is not TOML"),
        ("a=" + "9" * 30, "an integer past 18 digits"),
        ("a=0x" + "f" * 100, "an integer past 18 digits"),
        ("a", "is not TOML"),
    ],
)
def test_toml_past_a_bound(text: str, says: str) -> None:
    with pytest.raises(DocumentError, match=says):
        parse_toml(text)


def test_what_is_within_the_bounds_is_read() -> None:
    assert parse_json('{"a": [1, -2.5, null, true, "ü"], "b": 999999999999999999}') == {
        "a": [1, -2.5, None, True, "ü"],
        "b": 10**18 - 1,
    }
    assert parse_json("[" * 31 + "1" + "]" * 31)
    assert parse_toml(f"{'a.' * 30}b = 1")
    assert parse_toml('[a]\nb = [1, 2.5, "ü"]') == {"a": {"b": [1, 2.5, "ü"]}}


@given(st.text() | st.binary())
def test_anything_is_read_or_refused(data: str | bytes) -> None:
    try:
        parse_json(data)
    except DocumentError as error:
        assert str(error)


class _Told(Document):
    name: str
    sizes: list[int]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([], "dictionary"),
        (None, "dictionary"),
        ({"name": "a"}, "sizes: field required"),
        ({"name": 3, "sizes": []}, "name: .*valid string"),
        ({"name": "a", "sizes": [1, "2"]}, r"sizes\.1: .*valid integer"),
        ({"name": "a", "sizes": [1.0]}, r"sizes\.0: .*valid integer"),
        ({"name": "a", "sizes": [True]}, r"sizes\.0: .*valid integer"),
    ],
)
def test_another_type_is_named(content: object, says: str) -> None:
    with pytest.raises(DocumentError, match=says) as caught:
        _Told.of(content)
    assert "\n" not in str(caught.value)


def test_more_than_is_asked_for_is_kept() -> None:
    assert _Told.of({"name": "a", "sizes": [1], "more": 2}).sizes == [1]


def test_text(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbf{}")
    assert read_text(path) == "{}", "without its byte order mark"
    path.write_bytes(b"{\xff}")
    with pytest.raises(DocumentError, match="is not UTF-8 at byte 1"):
        read_text(path)
    path.write_bytes(b"1234")
    assert read_text(path, 4) == "1234"
    with pytest.raises(DocumentError, match="more than 3 bytes"):
        read_text(path, 3)


@pytest.mark.timeout(60)
def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(OSError, match="is a pipe, not a file"):
        read_text(tmp_path / "a.json")
    with pytest.raises(OSError, match="is a folder, not a file"):
        read_text(tmp_path)
    with pytest.raises(OSError, match="is a device, not a file"):
        read_text(Path("/dev/zero"))
