"""The C interface: the samples of Python's int8 engine, in any chunks and threads; damaged bytes are refused."""

import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support import c_interface as c
from support.small import small_config

from gru_audio.config import Config, MelConfig
from gru_audio.errors import ConfigError
from gru_audio.native import instruction_sets, library
from gru_audio.network.blocks import pruned
from gru_audio.network.model import Network
from gru_audio.signal.mel import from_linear
from gru_audio.synthesis.correction_plan import plan_of_contract
from gru_audio.synthesis.folding import fold
from gru_audio.synthesis.int8.packing import pack
from gru_audio.synthesis.int8.voice_file import pack_voice
from gru_audio.synthesis.sampling import Sampling
from gru_audio.synthesis.vocoder import Vocoder
from gru_audio.voice.bundled import DEFAULT_VOICE, voice_path
from gru_audio.voice.voice import SAMPLING, Voice, load_voice

Floats = NDArray[np.float32]

HOP, N_FRAMES = 40, 37
SHAPED = {"temperature": 0.7, "voiced_temperature_factor": 0.8, "noise_taps": [0.6, 0.3, 0.1]}
MELS: dict[str, dict[str, Any]] = {
    "plain": {},
    "of powers, in decibels, centred": {"spectrum": "power", "log": "db", "padding": "center", "scale": 0.02},
    "pre-emphasised, an odd size": {"n_fft": 250, "preemphasis": 0.9, "offset": 3.0, "log": "log10"},
    "windows of one hop": {"window_samples": HOP, "hop_samples": HOP, "n_fft": 256},
}
MODELS: dict[str, dict[str, Any]] = {
    "two samples a step": {"samples_per_step": 2},
    "four, six bits": {"samples_per_step": 4, "bits": 6},
    "no prediction, ten bits": {"lpc_order": 0, "bits": 10, "samples_per_step": 1},
    "wide": {"gru_size": 100, "readout_size": 70, "conditioning_size": 33},
    "sparse": {
        **{"gru_size": 70, "readout_size": 20, "samples_per_step": 4},
        **{"recurrent_density": (0.2, 0.2, 0.4), "readout_density": 0.25},
    },
}


def voice_of(config: Config, seed: int = 0, shaped: bool = False) -> Voice:
    torch.manual_seed(seed)
    tensors = {name: tensor.numpy() for name, tensor in Network(config).state_dict().items()}
    return Voice(config, pruned(config.model, tensors), {SAMPLING: SHAPED} if shaped else {})


def tiny(shaped: bool = True) -> Voice:
    return voice_of(small_config(hop_samples=HOP, samples_per_step=2), shaped=shaped)


def mel_like(config: MelConfig, n_frames: int = N_FRAMES, seed: int = 1) -> Floats:
    """Levels of speech, silence among them, as the contract stores them."""
    linear = np.exp(np.random.default_rng(seed).normal(-4, 2.5, (n_frames, config.n_mels)))
    linear[5:8] = 0
    return from_linear(linear, config)


@pytest.fixture(scope="module")
def bundled() -> c.CVoice:
    return c.CVoice(pack_voice(load_voice(DEFAULT_VOICE)))


@pytest.fixture(scope="module")
def packed() -> bytes:
    return pack_voice(tiny())


# The same samples


def test_the_bundled_voice_speaks_as_in_python(bundled: c.CVoice, speech: Floats) -> None:
    vocoder = Vocoder(load_voice(DEFAULT_VOICE), "int8")
    facts = bundled.facts
    assert (facts.sample_rate_hz, facts.hop_samples, facts.n_mels) == (16_000, 200, 80)
    assert facts.context_frames + facts.correction_frames == vocoder.lookahead_frames
    audio = speech[:12_345]
    mel = vocoder.mel(audio, 16_000)
    np.testing.assert_array_equal(bundled.mel(audio), mel)
    np.testing.assert_array_equal(bundled.synthesize(mel), vocoder.synthesize(mel))
    sampling = Sampling(seed=2**40 + 1, temperature=1.1, tail_cut=0.02)
    expected = vocoder.synthesize(mel, sampling)
    np.testing.assert_array_equal(bundled.synthesize(mel, **asdict(sampling)), expected)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("mel", MELS)
def test_any_voice_speaks_as_in_python(mel: str, model: str) -> None:
    sizes = dict(MODELS[model])
    order, bits = sizes.pop("lpc_order", 8), sizes.pop("bits", 8)
    config = small_config(order, bits, hop_samples=HOP, **sizes)
    config = config.model_copy(update={"mel": MelConfig(**{**config.mel.model_dump(), **MELS[mel]})})
    voice = voice_of(config, shaped=order > 0)
    vocoder, opened = Vocoder(voice, "int8"), c.CVoice(pack_voice(voice))
    frames = mel_like(config.mel)
    np.testing.assert_array_equal(opened.synthesize(frames, seed=3), vocoder.synthesize(frames, seed=3))
    if opened.facts.correction_frames:
        alone = Vocoder(voice, "int8", corrections=0).synthesize(frames)
        np.testing.assert_array_equal(opened.synthesize(frames, corrections=0), alone)
    else:
        with pytest.raises(c.RefusedError, match="a setting is out of its range"):
            opened.start(corrections=1)
    for n_samples in (1, 7, HOP, 5 * HOP + 3):
        audio = np.random.default_rng(n_samples).normal(0, 0.1, n_samples).astype(np.float32)
        np.testing.assert_array_equal(opened.mel(audio), vocoder.mel(audio, config.mel.sample_rate_hz))


@pytest.mark.parametrize("windows", [1, 2, 4])
def test_centred_frames_may_be_an_odd_hop_apart(windows: int) -> None:
    """As those of `wavernn-22k` are."""
    mel = {"padding": "center", "hop_samples": HOP + 1, "window_samples": windows * (HOP + 1)}
    config = small_config(hop_samples=HOP)
    voice = voice_of(config.model_copy(update={"mel": MelConfig(**{**config.mel.model_dump(), **mel})}))
    vocoder, opened = Vocoder(voice, "int8"), c.CVoice(pack_voice(voice))
    frames = mel_like(voice.config.mel)
    np.testing.assert_array_equal(opened.synthesize(frames, seed=3), vocoder.synthesize(frames, seed=3))
    audio = np.random.default_rng(0).normal(0, 0.1, 5 * HOP + 3).astype(np.float32)
    np.testing.assert_array_equal(opened.mel(audio), vocoder.mel(audio, config.mel.sample_rate_hz))


def test_every_instruction_set_gives_the_same(packed: bytes, instructions: str) -> None:
    frames = mel_like(tiny().config.mel)
    with library.using(instruction_sets.supported()[-1]):
        expected = c.CVoice(packed).synthesize(frames)
    np.testing.assert_array_equal(c.CVoice(packed).synthesize(frames), expected, instructions)


@pytest.mark.parametrize("chunk", [1, 2, 3, 16, 17])
def test_any_chunks_give_the_same(packed: bytes, chunk: int) -> None:
    voice, frames = c.CVoice(packed), mel_like(tiny().config.mel)
    stream = voice.start()
    parts = [stream.push(frames[i : i + chunk]) for i in range(0, N_FRAMES, chunk)]
    parts += [stream.push(frames[:0]), stream.finish()]
    np.testing.assert_array_equal(np.concatenate(parts), voice.synthesize(frames))


def test_short_streams(packed: bytes) -> None:
    voice, vocoder = c.CVoice(packed), Vocoder(tiny(), "int8")
    assert voice.start().finish().size == 0
    for n_frames in range(1, 8):
        frames = mel_like(tiny().config.mel, n_frames)
        np.testing.assert_array_equal(voice.synthesize(frames), vocoder.synthesize(frames))


def test_a_mel_beyond_all_measure_is_survived(packed: bytes) -> None:
    voice, vocoder = c.CVoice(packed), Vocoder(tiny(), "int8")
    for value in (3e38, -3e38, 1e20):
        frames = np.full((9, voice.facts.n_mels), value, np.float32)
        assert voice.synthesize(frames).size == vocoder.synthesize(frames).size == 9 * HOP


# Saved and restored


def test_a_saved_stream_goes_on_bit_for_bit(packed: bytes) -> None:
    voice, frames = c.CVoice(packed), mel_like(tiny().config.mel)
    whole = voice.synthesize(frames, seed=5)
    for n_before in (0, 1, 2, 3, 5, 20):
        stream = voice.start(seed=5)
        before, saved = stream.push(frames[:n_before]), stream.save()
        np.testing.assert_array_equal(
            np.concatenate([before, stream.push(frames[n_before:]), stream.finish()]), whole
        )
        with library.using(instruction_sets.supported()[0]):
            other = c.CVoice(packed).restore(saved)
            rest = np.concatenate([other.push(frames[n_before:]), other.finish()])
        np.testing.assert_array_equal(np.concatenate([before, rest]), whole)


def test_what_is_no_saved_stream_is_refused(packed: bytes) -> None:
    voice = c.CVoice(packed)
    stream = voice.start()
    stream.push(mel_like(tiny().config.mel))
    saved = stream.save()
    for bad in (b"", saved[:-1], saved + b"\0", b"x" + saved[1:], saved[:100] + b"\x77" + saved[101:]):
        with pytest.raises(c.RefusedError, match="no saved stream") as caught:
            voice.restore(bad)
        assert caught.value.status == c.NO_STATE
    other = c.CVoice(pack_voice(voice_of(tiny().config, seed=1)))
    with pytest.raises(c.RefusedError, match="saved with another voice"):
        other.restore(saved)
    stream.finish()
    with pytest.raises(c.RefusedError, match="finished before"):
        stream.save()


# Threads


def test_streams_in_many_threads(packed: bytes) -> None:
    voice = c.CVoice(packed)
    mels = [mel_like(tiny().config.mel, 40, seed) for seed in range(8)]

    def speak(number: int) -> Floats:
        stream = voice.start(seed=number)
        parts = [stream.push(mels[number][i : i + 3]) for i in range(0, 40, 3)]
        return np.concatenate([*parts, stream.finish()])

    with ThreadPoolExecutor(4) as pool:
        spoken = list(pool.map(speak, range(8)))
    for number, audio in enumerate(spoken):
        np.testing.assert_array_equal(audio, voice.synthesize(mels[number], seed=number))


# What is refused, with a reason


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.0},
        {"temperature": 10.1},
        {"temperature": float("nan")},
        {"tail_cut": 0.5},
        {"tail_cut": -0.1},
        {"corrections": -1},
        {"corrections": 101},
    ],
)
def test_settings_out_of_range(packed: bytes, settings: dict[str, float]) -> None:
    with pytest.raises(c.RefusedError, match="a setting is out of its range"):
        c.CVoice(packed).start(**settings)


def test_nan_is_refused_and_nothing_is_taken(packed: bytes) -> None:
    voice, frames = c.CVoice(packed), mel_like(tiny().config.mel)
    stream = voice.start()
    for bad in (np.nan, np.inf):
        spoilt = frames[:5].copy()
        spoilt[4, 3] = bad
        with pytest.raises(c.RefusedError, match="NaN or infinite"):
            stream.push(spoilt)
    audio = np.concatenate([stream.push(frames), stream.finish()])
    np.testing.assert_array_equal(audio, voice.synthesize(frames))
    with pytest.raises(c.RefusedError, match="NaN or infinite"):
        voice.mel(np.array([0, np.nan], np.float32))
    with pytest.raises(c.RefusedError, match="finished before"):
        stream.push(frames)
    with pytest.raises(c.RefusedError, match="finished before"):
        stream.finish()


def refused(packed: bytes) -> int:
    with pytest.raises(c.RefusedError) as caught:
        c.CVoice(packed)
    assert "\n" not in caught.value.text
    return caught.value.status


def test_what_is_no_voice_is_refused(packed: bytes) -> None:
    assert refused(b"") == refused(packed[:20]) == refused(b"X" + packed[1:]) == c.NO_VOICE
    assert refused(voice_path(DEFAULT_VOICE).read_bytes()[:1000]) == c.NO_VOICE
    assert refused(packed[:8] + b"\x09" + packed[9:]) == c.OTHER_VERSION
    assert refused(packed[:-1]) == refused(packed + b"\0") == refused(packed[:24]) == c.CUT
    for place in (30, 500, len(packed) // 2, len(packed) - 1):
        assert refused(packed[:place] + bytes([packed[place] ^ 1]) + packed[place + 1 :]) == c.DAMAGED


def test_texts_of_all_errors() -> None:
    texts = [c.error_text(status).decode() for status in range(c.N_STATUSES)]
    assert len(set(texts)) == c.N_STATUSES
    assert all(c.error_text(status) == b"no status of this library" for status in (-1, c.N_STATUSES, 1000))


def test_an_unaligned_file_is_refused(packed: bytes) -> None:
    room = c.copied(b"\0" * 4 + packed)
    memory = c.memory(c.voice_size())
    status = c.open_voice(room.ctypes.data + 4, len(packed), memory.ctypes.data, memory.ctypes.data)
    assert status == c.UNALIGNED


WRONG_WHOLE_NUMBERS = (0, 1, 3, 63, 10**6, 2**31, 2**63 - 1)
WRONG_REAL_NUMBERS = (-1e300, -100.0, -1.0, 0.0, 1e-20, 100.0, 1e9, 1e30, float("nan"))


def test_no_wrong_number_gets_through(packed: bytes) -> None:
    """Each number and each place made wrong, with the checksum right: refused, or it speaks nevertheless.

    Of numbers, also of what is finite: places are those of other arrays, which may hold what makes no sense.
    """
    frames = mel_like(tiny().config.mel, 6)
    first_real, first_place = c.HEADER.size + c.WHOLE_NUMBERS.size, c.FIRST_PLACE
    first_array = struct.unpack_from("<Q", packed, first_place)[0]
    n_refused = 0
    for at in range(c.HEADER.size, first_array - 15, 8):
        is_real = first_real <= at < first_place
        for value in WRONG_REAL_NUMBERS if is_real else WRONG_WHOLE_NUMBERS:
            wrong = bytearray(packed)
            struct.pack_into("<d" if is_real else "<q", wrong, at, value)
            try:
                voice = c.CVoice(c.summed(wrong))
            except c.RefusedError as error:
                assert error.status in (c.BAD_NUMBER, c.CUT)
                n_refused += 1
                continue
            if c.stream_size(voice.pointer) < 50_000_000:
                audio = voice.synthesize(frames[:, : voice.facts.n_mels])
                assert at >= first_place or np.isfinite(audio).all(), (at, value)
    assert n_refused > 300


def test_a_band_beyond_the_low_end_is_refused(packed: bytes) -> None:
    """By its first bin, which is one of the whole spectrum."""
    plan = plan_of_contract(tiny().config.mel)
    last, first = plan.low_n_mels - 1, plan.held["first_bin"]
    assert last > 0
    moved = first.copy()
    moved[last] = plan.low_n_fft // 2 - plan.held["length"][last]
    assert packed.count(first.tobytes()) == 1
    c.CVoice(c.summed(packed.replace(first.tobytes(), moved.tobytes())))
    moved[last] += 1
    assert refused(c.summed(packed.replace(first.tobytes(), moved.tobytes()))) == c.BAD_NUMBER


@pytest.mark.parametrize("name", ["columns", "readout_columns"])
def test_columns_beyond_the_state_are_refused(name: str) -> None:
    config = small_config(gru_size=70, recurrent_density=(0.2, 0.2, 0.4), readout_density=0.25)
    voice = voice_of(config)
    packed, columns = pack_voice(voice), pack(fold(voice)).held[name]
    assert packed.count(columns.tobytes()) == 1
    moved = columns.copy()
    moved.flat[3] = {"columns": 2 * 64, "readout_columns": 64}[name] - 3
    assert refused(c.summed(packed.replace(columns.tobytes(), moved.tobytes()))) == c.BAD_NUMBER


def test_a_voice_that_c_cannot_take_is_not_exported() -> None:
    """Its settings are as bad as C's bounds can tell; the config's own would have refused them before."""
    config = small_config(samples_per_step=2)
    many_windows = config.mel.model_copy(update={"hop_samples": 2})
    with pytest.raises(ConfigError, match="the C interface does not take this voice"):
        pack_voice(voice_of(config.model_copy(update={"mel": many_windows})))
