"""Synthesis: the folded step and the numpy front end against the trained modules; streaming; engines."""

import contextlib
import itertools
import os
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support import naive, small
from support.folded import block_of
from support.small import N_MELS, RATE
from torch import Tensor

from gru_audio.config import Config, ModelConfig, load_config
from gru_audio.errors import AudioError, ConfigError, MelError
from gru_audio.native import instruction_sets, library
from gru_audio.network import distribution
from gru_audio.network.model import CodeInputs, Network
from gru_audio.progress import Progress
from gru_audio.signal.audio import rms_dbfs
from gru_audio.signal.mel import log_mel, silent_frames
from gru_audio.signal.mulaw import expansion_table, thresholds
from gru_audio.synthesis import engines
from gru_audio.synthesis.engines import ENGINES, choose_engine
from gru_audio.synthesis.folding import fold
from gru_audio.synthesis.frontend import ConditioningWeights, FrameBlock, FrontEnd
from gru_audio.synthesis.sampling import Sampling
from gru_audio.synthesis.torch_engine import sample_loop
from gru_audio.synthesis.vocoder import Vocoder
from gru_audio.voice.voice import Voice

Floats = NDArray[np.float32]

HOP = 40
small_config = partial(small.small_config, hop_samples=HOP)
COMPILED = [name for name in ENGINES if name != "torch"]


def audio_of(config: Config, n_frames: int) -> Floats:
    """A gliding buzz in noise."""
    t = np.arange(n_frames * config.mel.hop_samples) / config.mel.sample_rate_hz
    phase = 2 * np.pi * (110 * t + 40 * t**2)
    buzz = sum(np.sin(k * phase) / k for k in range(1, 12))
    noise = np.random.default_rng(0).standard_normal(t.size)
    return np.asarray(0.1 * buzz + 0.01 * noise, np.float32)


def mel_of(config: Config, n_frames: int) -> Floats:
    return log_mel(audio_of(config, n_frames), config.mel)


def significant(numbers: torch.Tensor, bits: int) -> torch.Tensor:
    """The nearest numbers of so many significant bits: what native/loops/dense.h multiplies."""
    dropped = 24 - bits
    whole = numbers.contiguous().view(torch.int32) + (1 << (dropped - 1))
    return (whole & -(1 << dropped)).view(torch.float32)


@contextlib.contextmanager
def rounded_conditioning() -> Iterator[None]:
    """Where the network's conditioner and pitch head round what goes from layer to layer as the front end does."""
    tanh = torch.tanh
    with mock.patch("torch.tanh", lambda x: significant(tanh(x), 13)):
        yield


def network_of(config: Config, seed: int = 0) -> Network:
    """A network whose pitch head calls some frames voiced and others not, and whose logits differ visibly.

    Its weights are numbers of 11 significant bits, as those of voices in half precision.
    """
    torch.manual_seed(seed)
    network = Network(config).eval()
    mel = torch.from_numpy(mel_of(config, 40))
    network.set_normalisation(mel.mean(0), mel.std(0).clamp(min=0.1))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(significant(1.5 * parameter, 11))
        if network.pitch_head is not None:
            voicing = network.pitch_head(network.normalise(mel)[None])[0, :, -1]
            middle = voicing.sort().values[19:21].mean()  # between two frames, so that none is on the edge
            network.pitch_head.output.bias[-1] -= middle
    return network


def voice_of(network: Network) -> Voice:
    return Voice(network.config, {name: tensor.numpy() for name, tensor in network.state_dict().items()})


def vocoder_of(config: Config, engine: str = "torch", seed: int = 0) -> Vocoder:
    return Vocoder(voice_of(network_of(config, seed)), engine, "cpu", corrections=0)


def draws_of(engine: str, voice: Voice, mel: Floats, n: int, sampling: dict[str, Any]) -> Floats:
    """What an engine makes of a mel with n seeds, at once: (n, T), not corrected."""
    made_by, uniforms = Vocoder(voice, engine, "cpu").engine, np.random.default_rng(0)
    return made_by.generate(
        made_by.start(n),
        [block_of(voice, mel)] * n,
        uniforms.random((n, len(mel) * HOP), np.float32),
        Sampling(**sampling),
    )


@pytest.fixture(scope="module", params=list(ENGINES))
def vocoder(request: pytest.FixtureRequest) -> Vocoder:
    return vocoder_of(small_config(samples_per_step=2), request.param)


# The folded step against the module that is trained


class Spy:
    """Records what the torch engine draws from and what it reads."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.codes: list[int] = []
        self.logits: list[Tensor] = []
        self.read: list[list[int]] = []
        weigh, draw, immediate = (
            distribution.probabilities,
            distribution.drawn,
            sample_loop.SampleLoop.immediate_codes,
        )

        def recording_weigh(*arguments: Any) -> Tensor:
            self.logits.append(arguments[1][0].clone())
            return weigh(*arguments)

        def recording_draw(*arguments: Any) -> Tensor:
            code = draw(*arguments)
            self.codes.append(int(code[0]))
            return code

        def recording_immediate(loop: sample_loop.SampleLoop, t: int) -> Tensor:
            codes = immediate(loop, t)
            self.read.append(codes[0].tolist())
            return codes

        monkeypatch.setattr(sample_loop, "probabilities", recording_weigh)
        monkeypatch.setattr(sample_loop, "drawn", recording_draw)
        monkeypatch.setattr(sample_loop.SampleLoop, "immediate_codes", recording_immediate)


def rebuild(codes: NDArray[np.int64], block: FrameBlock, config: Config) -> tuple[Floats, NDArray[np.int64]]:
    """The pre-emphasised signal that codes stand for, and the codes (2, T) of s[t - 1] and of the prediction."""
    edges, expansion = thresholds(config.signal.n_classes), expansion_table(config.signal.n_classes)
    filters, n_samples = block.filters, len(codes)
    rebuilt, read = np.zeros(n_samples, np.float32), np.zeros((2, n_samples), np.int64)
    for t in range(n_samples):
        frame = t // config.mel.hop_samples
        prediction = np.float32(0)
        for k in range(min(config.signal.lpc_order, t)):
            prediction += filters.coefficients[frame, k] * rebuilt[t - 1 - k]
        for row, value in enumerate((rebuilt[t - 1] if t else np.float32(0), prediction)):
            read[row, t] = np.searchsorted(edges, value / filters.signal_scale[frame], side="right")
        rebuilt[t] = prediction + filters.excitation_scale[frame] * expansion[codes[t]]
    return rebuilt, read


@pytest.mark.parametrize(
    ("cell", "stride", "lpc_order", "output"),
    list(itertools.product(("gru", "lstm", "rnn"), (1, 2, 4), (8, 0), ("tree", "softmax"))),
)
def test_the_folded_step_is_the_modules_forward(
    monkeypatch: pytest.MonkeyPatch, cell: str, stride: int, lpc_order: int, output: str
) -> None:
    config = small_config(lpc_order, cell=cell, samples_per_step=stride, output=output)
    network, mel = network_of(config), mel_of(config, 6)
    vocoder, spy = Vocoder(voice_of(network), "torch", "cpu", corrections=0), Spy(monkeypatch)
    audio = vocoder.synthesize(mel, Sampling(seed=1, temperature=1.0))
    n_samples, codes, read = len(mel) * HOP, np.array(spy.codes), np.array(spy.read)
    block = block_of(voice_of(network), mel)

    # What the engine reads is what its own draws say.
    past = np.concatenate([np.full(200, 128), codes])
    for i in range(stride):
        np.testing.assert_array_equal(read[:, i], past[200 - stride + i :][:n_samples])  # oldest first
    rebuilt, naive_read = rebuild(codes, block, config)
    expected_audio, last = np.zeros(n_samples), 0.0
    for t in range(n_samples):
        last = expected_audio[t] = rebuilt[t] + config.signal.preemphasis * last
    np.testing.assert_allclose(audio, expected_audio, atol=1e-3 * np.abs(expected_audio).max())
    if lpc_order:
        assert 0 < np.count_nonzero(block.lags) < len(mel), "voiced and unvoiced frames"
        delayed = naive.delayed_codes(past, block.lags.astype(np.float64), n_samples, 128)
        np.testing.assert_array_equal(read[:, stride + 2], delayed)
        # Summed in another order a value may fall on the other side of a mu-law threshold, now and then.
        assert np.mean(naive_read == read[:, stride : stride + 2].T) > 0.99

    # The module, taught with these codes, gives the logits that the engine drew from.
    excitation = torch.from_numpy(past[200 - stride : 200 + n_samples - 1])[None]
    inputs, lags = CodeInputs(excitation), None
    if lpc_order:
        columns = torch.from_numpy(read[:, stride:].T.copy())[:, None]  # (3, 1, T)
        inputs, lags = CodeInputs(excitation, *columns), torch.from_numpy(block.lags)[None].float()
    padding = silent_frames(2, config.mel)
    normalised = network.normalise(torch.from_numpy(np.concatenate([padding, mel, padding])))[None]
    normalised = significant(normalised, 13)
    with torch.no_grad(), rounded_conditioning():
        if network.pitch_head is not None:
            estimate = network.pitch_head.estimate(network.pitch_head(normalised))
            assert lags is not None
            torch.testing.assert_close(estimate.round(), lags)
            lags = estimate
        logits, _ = network.sample_network(network.conditioner(normalised, lags), inputs)
    drawn_from = torch.stack(spy.logits)
    assert drawn_from.std() > 0.05
    torch.testing.assert_close(drawn_from, logits[0], atol=1e-4, rtol=0)


# The numpy front end against the modules


@pytest.mark.parametrize("lpc_order", [0, 8])
def test_front_end_is_the_trained_conditioner(lpc_order: int) -> None:
    config = small_config(lpc_order)
    network, mel = network_of(config), mel_of(config, 40)
    voice = voice_of(network)
    folded = fold(voice)
    front_end = FrontEnd(ConditioningWeights(voice, folded))
    parts = [front_end.push(mel), front_end.finish()]
    assert [len(part) for part in parts] == [38, 2]
    padding = silent_frames(2, config.mel)
    with torch.no_grad(), rounded_conditioning():
        normalised = network.normalise(torch.from_numpy(np.concatenate([padding, mel, padding])))[None]
        normalised = significant(normalised, 13)
        lags = network.pitch_head.estimate(network.pitch_head(normalised)) if network.pitch_head else None
        conditioning = network.conditioner(normalised, lags)[0]
        gates = torch.nn.functional.linear(conditioning, torch.from_numpy(folded.gate_conditioning))
        readouts = network.sample_network.readout_conditioning(conditioning)
    found = np.concatenate([part.gate_inputs for part in parts])
    np.testing.assert_allclose(found, gates.numpy() + folded.gate_bias, atol=2e-4)
    np.testing.assert_allclose(
        np.concatenate([part.readout_inputs for part in parts]), readouts.numpy(), atol=2e-4
    )
    found_lags = np.concatenate([part.lags for part in parts])
    if lags is None:
        assert not found_lags.any()
    else:
        np.testing.assert_array_equal(found_lags, lags[0].round().numpy())
        assert 5 < np.count_nonzero(found_lags) < 35
        assert len(set(found_lags)) > 4
        assert found_lags[found_lags > 0].min() >= config.lag_min_samples
        assert found_lags.max() <= config.lag_max_samples


@pytest.mark.parametrize("lpc_order", [0, 8])
@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 23])
def test_chunks_of_any_size_give_the_same_bits(lpc_order: int, chunk: int) -> None:
    config = small_config(lpc_order)
    voice, mel = voice_of(network_of(config)), mel_of(config, 23)
    weights = ConditioningWeights(voice, fold(voice))

    def run(size: int) -> list[FrameBlock]:
        front_end = FrontEnd(weights)
        blocks = [front_end.push(mel[first : first + size]) for first in range(0, 23, size)]
        return [*blocks, front_end.finish()]

    def columns(blocks: Sequence[FrameBlock]) -> Iterator[NDArray[Any]]:
        for part in ("gate_inputs", "readout_inputs", "lags"):
            yield np.concatenate([getattr(block, part) for block in blocks])
        for part in ("coefficients", "excitation_scale", "signal_scale"):
            yield np.concatenate([getattr(block.filters, part) for block in blocks])

    whole, chunked = run(23), run(chunk)
    assert sum(map(len, chunked)) == 23
    for expected, found in zip(columns(whole), columns(chunked), strict=True):
        assert expected.dtype == found.dtype
        np.testing.assert_array_equal(found, expected)


def test_a_block_is_sliced_by_frames() -> None:
    config = small_config()
    block = block_of(voice_of(network_of(config)), mel_of(config, 6))
    part = block[2:5]
    assert len(part) == 3
    np.testing.assert_array_equal(part.gate_inputs, block.gate_inputs[2:5])
    np.testing.assert_array_equal(part.filters.coefficients, block.filters.coefficients[2:5])
    np.testing.assert_array_equal(part.lags, block.lags[2:5])


# The vocoder, whatever the engine


@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
def test_synthesize_is_the_concatenated_stream(vocoder: Vocoder, chunk: int) -> None:
    mel = mel_of(vocoder.config, 18)
    expected = vocoder.synthesize(mel, seed=3)
    pieces = list(vocoder.stream((mel[i : i + chunk] for i in range(0, 18, chunk)), seed=3))
    assert all(piece.dtype == np.float32 for piece in pieces)
    np.testing.assert_array_equal(np.concatenate(pieces), expected)


def test_a_stream_gives_audio_as_soon_as_its_lookahead_has_come(vocoder: Vocoder) -> None:
    mel, taken = mel_of(vocoder.config, 6), 0

    def frames() -> Iterator[Floats]:
        nonlocal taken
        for frame in mel:
            taken += 1
            yield frame[None]

    sizes = []
    for piece in vocoder.stream(frames()):
        sizes.append((taken, piece.size))
    assert sizes == [(3, HOP), (4, HOP), (5, HOP), (6, HOP), (6, 2 * HOP)]


def test_streams_do_not_disturb_each_other(vocoder: Vocoder) -> None:
    mel = mel_of(vocoder.config, 8)
    expected = vocoder.synthesize(mel, seed=5)
    one, other = (vocoder.stream(np.split(mel, 8), seed=5) for _ in range(2))
    pairs = list(zip(one, other, strict=True))
    for index in range(2):
        np.testing.assert_array_equal(np.concatenate([pair[index] for pair in pairs]), expected)


def test_the_seed_decides_the_samples(vocoder: Vocoder) -> None:
    mel = mel_of(vocoder.config, 6)
    first = vocoder.synthesize(mel, seed=0)
    np.testing.assert_array_equal(vocoder.synthesize(mel), first)
    assert np.mean(vocoder.synthesize(mel, seed=1) != first) > 0.9


@pytest.mark.parametrize("n_frames", [0, 1, 2, 3, 5])
def test_lengths(vocoder: Vocoder, n_frames: int) -> None:
    mel = mel_of(vocoder.config, 5)[:n_frames]
    audio = vocoder.synthesize(mel)
    assert audio.shape == (n_frames * HOP,)
    assert audio.dtype == np.float32
    assert np.isfinite(audio).all()
    assert audio.any() == (n_frames > 0)
    assert sum(piece.size for piece in vocoder.stream([mel, mel[:0]])) == n_frames * HOP
    assert [clip.shape for clip in vocoder.synthesize_batch([mel])] == [(n_frames * HOP,)]


def test_nothing_to_stream(vocoder: Vocoder) -> None:
    assert list(vocoder.stream([])) == []
    assert vocoder.synthesize_batch([]) == []


def test_a_turned_mel_is_taken(vocoder: Vocoder) -> None:
    mel = mel_of(vocoder.config, 5)
    expected = vocoder.synthesize(mel)
    for turned in (mel.T, mel[None], mel.astype(np.float64), mel.tolist()):
        np.testing.assert_array_equal(vocoder.synthesize(turned), expected)


@pytest.mark.parametrize("bits", [6, 8, 10])
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("engine", list(ENGINES))
def test_silence_stays_silent(engine: str, bits: int, seed: int) -> None:
    """The level is the mel's, so that even random weights cannot be loud in silence."""
    vocoder = vocoder_of(small_config(bits=bits), engine, seed)
    assert rms_dbfs(vocoder.synthesize(silent_frames(12, vocoder.mel_config))) < -70


def test_the_level_follows_the_mel(vocoder: Vocoder) -> None:
    audio = audio_of(vocoder.config, 12)
    loud, quiet = (vocoder.synthesize(vocoder.mel(gain * audio, RATE)) for gain in (1.0, 0.03))
    assert 20 < rms_dbfs(loud) - rms_dbfs(quiet) < 40


def test_batch_is_each_clip_alone(vocoder: Vocoder) -> None:
    """Bit for bit, but that products of a batch may round differently: then up to the first changed draw."""
    mels = [mel_of(vocoder.config, n)[:n] for n in (9, 0, 14, 1)]
    together = vocoder.synthesize_batch(mels, seed=2)
    agreeing = 0
    for mel, clip in zip(mels, together, strict=True):
        alone = vocoder.synthesize(mel, seed=2)
        assert clip.shape == alone.shape
        differing = np.flatnonzero(np.abs(clip - alone) > 1e-4 * np.abs(alone).max(initial=1e-9))
        agreeing += int(differing[0]) if differing.size else alone.size
    assert agreeing > 0.5 * 24 * HOP


def test_progress(vocoder: Vocoder) -> None:
    n_frames, in_step = 80, vocoder.engine.streams_at_once > 1
    mel, reports, batch_reports = mel_of(vocoder.config, n_frames), list[Progress](), list[Progress]()
    vocoder.synthesize(mel, progress=reports.append)
    vocoder.synthesize_batch([mel, mel[:3]], progress=batch_reports.append)
    steps_of_batch = n_frames if in_step else n_frames + 3  # with the longest, or one after the other
    for made, total in ((reports, n_frames), (batch_reports, steps_of_batch)):
        done = [report.done for report in made]
        assert {report.total for report in made} == {total}
        assert done == sorted(done)
        assert done[-1] == total
        assert len(done) >= 2


def test_a_mel_that_does_not_fit(vocoder: Vocoder) -> None:
    mel = mel_of(vocoder.config, 4)
    broken = mel.copy()
    broken[2, 3] = np.nan
    for wrong, reason in (
        (mel[:, :-1], "bands"),
        (mel[0], "shape"),
        (broken, "NaN"),
        (mel.astype(str), "real"),
    ):
        with pytest.raises(MelError, match=reason):
            vocoder.synthesize(wrong)
        with pytest.raises(MelError, match=f"mel 1.*{reason}"):
            vocoder.synthesize_batch([mel, wrong])
        with pytest.raises(MelError, match=reason):
            list(vocoder.stream([mel, wrong]))


def test_temperature_and_tail_cut_calm_the_noise(vocoder: Vocoder) -> None:
    """On random weights the drawn codes are nearly uniform; both settings make them less so."""
    mel = mel_of(vocoder.config, 12)
    plain = rms_dbfs(vocoder.synthesize(mel))
    assert rms_dbfs(vocoder.synthesize(mel, Sampling(temperature=0.3))) != plain
    assert np.isfinite(vocoder.synthesize(mel, Sampling(tail_cut=0.4))).all()
    cold = [vocoder.synthesize(mel, Sampling(seed=seed, temperature=1e-6)) for seed in (0, 1)]
    assert np.mean(np.abs(cold[0] - cold[1]) < 1e-6) > 0.9, "without noise the seed does not matter"


# Mels of audio


def test_mel_of_audio(vocoder: Vocoder) -> None:
    audio = audio_of(vocoder.config, 10)[:-30]
    mel = vocoder.mel(audio, RATE)
    assert mel.shape == (10, N_MELS)
    assert mel.dtype == np.float32
    np.testing.assert_array_equal(mel, log_mel(np.pad(audio, (0, 30)), vocoder.mel_config))
    pcm = np.round(audio * 32768).astype(np.int16)
    np.testing.assert_array_equal(vocoder.mel(pcm, RATE), vocoder.mel(pcm / 32768, RATE))
    assert vocoder.mel(np.zeros(0), RATE).shape == (0, N_MELS)
    assert vocoder.mel(np.ones(1) * 0.1, RATE).shape == (1, N_MELS)


def test_mel_of_audio_at_another_rate(vocoder: Vocoder) -> None:
    high, tone = (
        np.sin(2 * np.pi * 440 * np.arange(rate) / rate).astype(np.float32) for rate in (16_000, RATE)
    )
    resampled, native = vocoder.mel(high, 16_000), vocoder.mel(tone, RATE)
    assert resampled.shape == native.shape
    loudest = native[10:-10].argmax(1)
    np.testing.assert_array_equal(resampled[10:-10].argmax(1), loudest)
    assert np.abs(resampled[10:-10].max(1) - native[10:-10].max(1)).max() < 0.01


@pytest.mark.parametrize(
    ("audio", "reason"),
    [
        (np.zeros((2, 100)), "one dimension"),
        (np.zeros(()), "one dimension"),
        (np.array([0.0, np.nan]), "NaN or infinite"),
        (np.array([0.0, np.inf]), "NaN or infinite"),
        (np.zeros(9, np.int32), "int32"),
        (np.array(["a"]), "type"),
    ],
)
def test_what_is_not_audio(vocoder: Vocoder, audio: NDArray[Any], reason: str) -> None:
    with pytest.raises(AudioError, match=reason):
        vocoder.mel(audio, RATE)


# Engines


@pytest.mark.parametrize(
    ("stride", "lpc_order", "bits"), [(1, 8, 8), (2, 8, 8), (4, 8, 6), (1, 0, 10), (2, 0, 8), (4, 16, 8)]
)
@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.7, "tail_cut": 0.05}])
def test_float32_draws_what_torch_draws(
    stride: int, lpc_order: int, bits: int, sampling: dict[str, Any]
) -> None:
    """The same samples, until rounding tips a draw; on most seeds it never does in this short clip."""
    config = small_config(lpc_order, bits, samples_per_step=stride)
    voice, mel = voice_of(network_of(config)), mel_of(config, 8)
    of_torch, of_float32 = (draws_of(name, voice, mel, 3, sampling) for name in ("torch", "float32"))
    shares = []
    for expected, found in zip(of_torch, of_float32, strict=True):
        differing = np.flatnonzero(np.abs(found - expected) > 1e-3 * np.abs(expected).max())
        shares.append((differing[0] if differing.size else found.size) / found.size)
    assert np.mean(shares) > 0.6, f"shares of the clip up to the first difference: {shares}"


@pytest.mark.parametrize(
    ("stride", "sampling"), [(1, {"temperature": 0.7, "tail_cut": 0.05}), (2, {})], ids=["calmed", "plain"]
)
def test_int8_sounds_like_torch(stride: int, sampling: dict[str, Any]) -> None:
    """Its weights are others, so that draws soon differ; but no more than with another seed. See test_int8.py."""
    config = small_config(samples_per_step=stride)
    voice, mel = voice_of(network_of(config)), mel_of(config, 40)
    of_torch, of_int8 = (
        np.array([log_mel(audio, config.mel) for audio in draws_of(name, voice, mel, 4, sampling)])
        for name in ("torch", "int8")
    )  # (4, F, M)
    between_seeds = np.abs(of_torch - np.roll(of_torch, 1, 0)).mean()
    assert np.abs(of_int8 - np.roll(of_torch, 1, 0)).mean() < 1.03 * between_seeds
    assert np.abs(of_int8.mean(0) - of_torch.mean(0)).mean() < 0.25 * between_seeds, (
        "nor is it off on average"
    )


@pytest.mark.parametrize("engine", COMPILED)
@pytest.mark.parametrize("model", [{"cell": "lstm"}, {"cell": "rnn"}, {"output": "softmax"}])
def test_a_voice_that_a_compiled_engine_cannot_run(engine: str, model: dict[str, object]) -> None:
    voice = voice_of(network_of(small_config(**model)))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=f"engine '{engine}'.* torch"):
        Vocoder(voice, engine)
    assert Vocoder(voice, "auto").engine_name == "torch"


@pytest.mark.parametrize("density", [0.2, 1.0])
def test_auto_is_the_fastest_engine(instructions: str, density: float) -> None:
    config = small_config(recurrent_density=[density] * 3)
    assert choose_engine(config) == choose_engine(config, "cpu")
    assert choose_engine(config)[0] == choose_engine(config, n_clips=0)[0] == "int8"
    assert choose_engine(config)[1].endswith(instructions)
    assert choose_engine(config, "cuda")[0] == "torch"


@pytest.mark.parametrize(
    ("has_gpu", "device", "n_clips", "expected"),
    [
        (True, "auto", 1, "int8"),
        (True, "auto", 100_000, "torch"),
        (True, "cpu", 100_000, "int8"),
        (False, "auto", 100_000, "int8"),
    ],
)
def test_auto_takes_a_gpu_for_many_clips(
    has_gpu: bool, device: str, n_clips: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "has_gpu", lambda: has_gpu)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    name, reason = choose_engine(load_config("universal-16k"), device, n_clips)
    assert name == expected
    assert ("100000 clips take about" in reason) == (expected == "torch")


def test_more_clips_take_longer_and_a_gpu_less_so() -> None:
    config = load_config("universal-16k")
    few, many = engines.seconds_of_clips(config, 10), engines.seconds_of_clips(config, 1_000)
    assert few[0] < many[0]
    assert few[0] / many[0] < few[1] / many[1] < 1


def test_auto_is_the_default() -> None:
    voice = voice_of(network_of(small_config()))
    chosen, _ = choose_engine(voice.config)
    assert Vocoder(voice, "auto").engine_name == Vocoder(voice).engine_name == chosen


def test_a_whole_clip_at_the_default_contract(speech: Floats) -> None:
    """The shipped contract and sizes fit together: half a second of speech through the tiny preset's network."""
    config = Config(model=ModelConfig(gru_size=32, conditioning_size=16, readout_size=16, pitch_size=16))
    torch.manual_seed(0)
    vocoder = Vocoder(voice_of(Network(config)))
    mel = vocoder.mel(speech[:8_000], 16_000)
    audio = vocoder.synthesize(mel)
    assert (mel.shape, audio.shape) == ((40, 80), (8_000,))
    assert np.isfinite(audio).all()


def test_float32_runs_on_the_cpu_alone() -> None:
    voice = voice_of(Network(small_config()))
    with pytest.raises(
        ConfigError, match="engine 'float32' runs on the CPU, not on 'cuda'; use the engine torch"
    ):
        Vocoder(voice, "float32", "cuda")


@pytest.mark.parametrize("samples_per_step", [1, 2])
def test_every_instruction_set_gives_the_same_int8_audio(samples_per_step: int) -> None:
    """Bit for bit, from the mel to the corrected samples."""
    config = small_config(samples_per_step=samples_per_step)
    voice, mel = voice_of(network_of(config)), mel_of(config, 20)
    first = None
    for name in instruction_sets.supported():
        with library.using(name):
            audio = Vocoder(voice, "int8").synthesize(mel, seed=1)
        first = audio if first is None else first
        np.testing.assert_array_equal(audio, first, err_msg=name)
