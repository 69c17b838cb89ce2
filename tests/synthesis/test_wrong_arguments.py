"""What a program in Python gives wrongly is told in one line, as a GruAudioError."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gru_audio
from gru_audio.synthesis.vocoder import Vocoder


@pytest.fixture(scope="module")
def vocoder() -> Vocoder:
    return gru_audio.load(engine="float32")


api: Any = gru_audio  # as a program without types sees it
with_corrections: Any = Vocoder
MEL = np.full((6, 80), -5.0, np.float32)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda _: api.Sampling(seed=1.5), "seed 1.5: not a whole number"),
        (lambda _: api.Sampling(seed="1"), "seed '1': not a whole number"),
        (lambda _: api.Sampling(seed=True), "seed True: not a whole number"),
        (lambda _: api.Sampling(temperature="a"), "temperature 'a': not a number"),
        (lambda _: api.Sampling(temperature=False), "temperature False: not a number"),
        (lambda _: api.Sampling(temperature=float("nan")), "temperature nan: must be above 0"),
        (lambda _: api.Sampling(tail_cut=None), "tail_cut None: not a number"),
        (lambda vocoder: vocoder.synthesize(MEL, 0), "sampling 0: not a gru_audio.Sampling; .*seed=0"),
        (lambda vocoder: vocoder.synthesize(MEL, None), "sampling None: not a gru_audio.Sampling"),
        (lambda vocoder: vocoder.synthesize_batch([MEL], seed=0.5), "seed 0.5: not a whole number"),
        (lambda vocoder: vocoder.synthesize_both([MEL], seed="0"), "seed '0': not a whole number"),
        (lambda vocoder: list(vocoder.stream([MEL], 3)), "sampling 3: not a gru_audio.Sampling"),
        (lambda vocoder: vocoder.start(seed="a\nb"), r"seed 'a\\nb': not a whole number"),
        (lambda vocoder: vocoder.mel(np.zeros(100), None), "a sample rate of None Hz"),
        (lambda vocoder: vocoder.mel(np.zeros(100), "16000"), "a sample rate of 16000 Hz"),
        (
            lambda vocoder: with_corrections(vocoder.voice, "float32", corrections=1.5),
            "corrections 1.5: not a whole",
        ),
        (
            lambda vocoder: with_corrections(vocoder.voice, "float32", corrections=True),
            "corrections True: not a",
        ),
        (lambda _: api.load(None), "voice None: neither a name nor a path"),
        (lambda _: api.load(3), "voice 3: neither a name nor a path"),
        (lambda _: api.load(engine=None), "None"),
        (lambda _: api.load(engine=[]), r"engine '\[\]' does not exist; choose one of"),
        (lambda _: api.load(engine=MEL), r"engine .* does not exist; choose one of"),
        (lambda _: api.load(engine="torch", device=None), "device 'None' does not exist; use auto"),
        (lambda _: api.load(device=MEL), "device .* does not exist; use auto"),
        (lambda vocoder: vocoder.synthesize_batch(None), "mels: NoneType, not several arrays; give a list"),
        (lambda vocoder: vocoder.synthesize_both(3), "mels: int, not several arrays; give a list"),
        (lambda vocoder: list(vocoder.stream(None)), "frames: NoneType, not several arrays; give a list"),
        (lambda vocoder: vocoder.restore(None), "saved stream: NoneType, not a mapping; give what"),
        (lambda vocoder: vocoder.restore(MEL), "saved stream: ndarray, not a mapping; give what"),
        (
            lambda vocoder: vocoder.restore({"voice": [[1], [1, 2]]}),
            "saved stream: not arrays: .*; give what",
        ),
        (
            lambda vocoder: vocoder.mel([[1.0], [1.0, 2.0]], 16_000),
            "audio: lists of different lengths; give one",
        ),
    ],
)
def test_it_is_told(vocoder: Vocoder, call: Callable[[Any], Any], told: str) -> None:
    with pytest.raises(gru_audio.GruAudioError, match=told) as error:
        call(vocoder)
    assert "\n" not in str(error.value)


def test_numpys_numbers_are_numbers(vocoder: Vocoder) -> None:
    sampling = gru_audio.Sampling(np.int64(3), np.float32(0.5), np.float64(0.01))
    expected = vocoder.synthesize(MEL, gru_audio.Sampling(3, 0.5, 0.01), check=False)
    np.testing.assert_array_equal(vocoder.synthesize(MEL, sampling, check=False), expected)


def test_a_device_of_torch_is_a_device() -> None:
    torch = pytest.importorskip("torch")
    assert api.load(engine="torch", device=torch.device("cpu")).engine_name == "torch"
    assert api.load(device=torch.device("cpu")).engine_name == "int8"
