"""`gru-audio export`: the command around the voice's file for C."""

import json
from pathlib import Path

import pytest
import torch
from support import c_interface
from support.small import small_config
from typer.testing import CliRunner

from gru_audio.cli import make_app
from gru_audio.errors import ConfigError
from gru_audio.network.model import Network
from gru_audio.synthesis.int8.voice_file import pack_voice
from gru_audio.voice.voice import Voice


def test_the_bundled_voice_is_exported(tmp_path: Path) -> None:
    path = tmp_path / "voice.gru"
    done = CliRunner().invoke(make_app(), ["export", "-o", str(path), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {"path": str(path), "bytes": path.stat().st_size}
    assert c_interface.CVoice(path.read_bytes()).facts.sample_rate_hz == 16_000
    quiet = CliRunner().invoke(make_app(), ["export", "-o", str(path), "--quiet"])
    assert (quiet.exit_code, quiet.output) == (0, "")


@pytest.mark.parametrize(("cell", "output"), [("lstm", "tree"), ("gru", "softmax")])
def test_a_voice_that_the_core_cannot_run_is_told_with_a_mend_of_export(cell: str, output: str) -> None:
    """It has no --engine."""
    config = small_config(cell=cell, output=output)
    torch.manual_seed(0)
    voice = Voice(config, {name: tensor.numpy() for name, tensor in Network(config).state_dict().items()})
    with pytest.raises(ConfigError, match=f"this voice is a {cell} with a {output}; train one with cell gru"):
        pack_voice(voice)
