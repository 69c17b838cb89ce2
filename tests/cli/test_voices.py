"""`gru-audio voices`: each bundled voice, as a table and as JSON, by a name that other commands take."""

import json

from typer.testing import CliRunner

from gru_audio.cli import make_app
from gru_audio.voice.bundled import DEFAULT_VOICE, bundled_voices, voice_path


def shown(*arguments: str) -> str:
    done = CliRunner().invoke(make_app(), ["voices", *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_json_has_each_voice() -> None:
    voices = {voice["name"]: voice for voice in json.loads(shown("--json"))}
    assert voices.keys() == bundled_voices().keys()
    assert [name for name, voice in voices.items() if voice["is_default"]] == [DEFAULT_VOICE]
    assert voices[DEFAULT_VOICE]["file_bytes"] == voice_path(DEFAULT_VOICE).stat().st_size
    assert voices[DEFAULT_VOICE]["sample_rate_hz"] == 16_000
    assert len(voices[DEFAULT_VOICE]["speakers"]) == 28


def test_the_table_marks_the_default_voice() -> None:
    table = shown()
    assert f"{DEFAULT_VOICE} (default)" in table
    assert "28" in table
    assert "CC BY-SA 3.0" in table
