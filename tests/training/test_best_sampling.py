"""The choice of a finished run's way of drawing, with an engine that is made up."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support.trained import make_dataset, run_to_end

from gru_audio.arrays import Made
from gru_audio.data.dataset import Dataset
from gru_audio.synthesis.sampling import CANDIDATES, VoiceSampling
from gru_audio.training.judging.best_sampling import choose_sampling
from gru_audio.training.judging.free_running import FreeRunning
from gru_audio.voice.voice import Voice, load_voice

Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("made"), 90, 110, 130, 150, 170, 190)


def test_the_best_is_stored(dataset: Path, tmp_path: Path) -> None:
    """An engine that adds the less noise the nearer a voice is drawn to one of the candidates."""
    run_to_end(dataset, tmp_path / "run")
    opened, before = Dataset.open(dataset), load_voice(tmp_path / "run")
    clips = FreeRunning(opened, before.config, lambda voice, mels: []).clips
    wanted, tried = CANDIDATES[3], list[VoiceSampling]()

    def synthesize(voice: Voice, mels: Sequence[Floats]) -> list[Made]:
        tried.append(VoiceSampling.of(voice.metadata))
        noise = 0.001 if tried[-1] == wanted else 0.1
        rng, hop = np.random.default_rng(0), voice.config.mel.hop_samples
        made = []
        for clip, mel in zip(clips, mels, strict=True):
            audio = np.pad(clip.audio, (0, len(mel) * hop - clip.audio.size))
            audio = (audio + noise * rng.normal(size=audio.size)).astype(np.float32)
            made.append(Made(audio, audio))
        return made

    best, score = choose_sampling(tmp_path / "run", opened, synthesize, [one.told() for one in CANDIDATES])
    after = load_voice(tmp_path / "run")
    assert tried == list(CANDIDATES)
    assert best == wanted.told()
    assert score is not None
    assert VoiceSampling.of(after.metadata) == wanted
    assert {key: value for key, value in after.metadata.items() if key != "sampling"} == before.metadata
    for name, tensor in before.tensors.items():
        np.testing.assert_array_equal(after.tensors[name], tensor)
    others = [one for one in CANDIDATES if one != wanted]
    tried.clear()
    choose_sampling(tmp_path / "run", opened, synthesize, [one.told() for one in others])
    assert tried == [wanted, *others], "what the voice has is tried first"
    assert VoiceSampling.of(load_voice(tmp_path / "run").metadata) == wanted
