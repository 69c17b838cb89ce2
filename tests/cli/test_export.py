"""`gru-audio export`: the command around the voice's file for C."""

import json
from pathlib import Path

from support import c_interface
from typer.testing import CliRunner

from gru_audio.cli import make_app


def test_the_bundled_voice_is_exported(tmp_path: Path) -> None:
    path = tmp_path / "voice.gru"
    done = CliRunner().invoke(make_app(), ["export", "-o", str(path), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {"path": str(path), "bytes": path.stat().st_size}
    assert c_interface.CVoice(path.read_bytes()).facts.sample_rate_hz == 16_000
    quiet = CliRunner().invoke(make_app(), ["export", "-o", str(path), "--quiet"])
    assert (quiet.exit_code, quiet.output) == (0, "")
