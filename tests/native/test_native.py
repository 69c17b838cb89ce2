"""The C core's loader, and that every instruction set of this machine gives the same bits."""

import copy
import ctypes
import os
import pickle
import re
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gru_audio.config import MEL_PRESETS, MelConfig, SignalConfig
from gru_audio.errors import GruAudioError
from gru_audio.native import instruction_sets, library
from gru_audio.signal.codec import de_emphasis, pre_emphasis, run_closed_loop
from gru_audio.signal.loudness import integrated_loudness
from gru_audio.signal.lpc import frame_filters, linear_prediction
from gru_audio.signal.mel import log_mel
from gru_audio.signal.pitch import track_pitch
from gru_audio.synthesis.correction import correct
from hatch_build import NATIVE

Floats = NDArray[np.float32]


def of_clip(audio: Floats) -> dict[str, Callable[[], object]]:
    """What the core computes of audio before and after the sample loop, by name."""
    contract, signal_config = MelConfig(), SignalConfig()
    hifigan = MEL_PRESETS["hifigan-22k"]
    mel = log_mel(audio, contract)
    signal = pre_emphasis(audio[: len(mel) * contract.hop_samples], 0.85)
    noise = np.random.default_rng(0).integers(-3, 4, signal.size, np.int8)
    filters = frame_filters(mel, contract, signal_config)
    return {
        "mel": lambda: log_mel(audio, contract),
        "mel of powers": lambda: log_mel(audio, hifigan.model_copy(update={"spectrum": "power"})),
        "prediction": lambda: np.concatenate(
            [x.ravel() for x in linear_prediction(mel, contract, signal_config)]
        ),
        "codec": lambda: run_closed_loop(signal, filters, signal_config, noise).rebuilt,
        "de-emphasis": lambda: de_emphasis(signal, 0.85),
        "correction": lambda: correct(signal, mel, contract),
        "pitch": lambda: track_pitch(
            audio, 16_000, hop_samples=200, n_frames=len(mel), lag_min_samples=32, lag_max_samples=320
        ),
        "loudness": lambda: integrated_loudness(audio, 16_000),
    }


def test_every_instruction_set_gives_the_same_bits(speech: Floats) -> None:
    first: dict[str, object] = {}
    for name in instruction_sets.supported():
        with library.using(name):
            for what, compute in of_clip(speech[10_000:40_000]).items():
                np.testing.assert_array_equal(compute(), first.setdefault(what, compute()), f"{what}, {name}")


def test_the_processor_has_what_it_says() -> None:
    if sys.platform != "linux" or "x86_64" not in os.uname().machine:
        pytest.skip("Linux's own list of an x86-64 processor's features is compared")
    flags = next(
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")
    ).split()
    wanted = {
        "baseline": set(),
        "avx2": {"avx2", "fma", "bmi1", "bmi2", "movbe", "f16c", "abm"},
        "avxvnni": {"avx2", "avx_vnni"},
        "avx512": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx512_vnni"},
        "avx512bf16": {"avx512_vnni", "avx512_bf16"},
    }
    told = instruction_sets.load("baseline").function("gru_instruction_sets", [], library.Int)()
    assert told == sum(1 << i for i, needs in enumerate(wanted.values()) if needs <= set(flags))


def run(code: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_best_set_is_taken_or_the_one_that_is_named() -> None:
    code = "from gru_audio.native import library; print(library.instructions())"
    sets = instruction_sets.supported()
    assert run(code, GRU_AUDIO_INSTRUCTIONS="").stdout.split() == [sets[-1]]
    for name in sets:
        assert run(code, GRU_AUDIO_INSTRUCTIONS=name).stdout.split() == [name]


def test_a_set_that_is_not_there_is_refused_in_one_line() -> None:
    code = "import sys; sys.argv[1:] = ['preview', 'samples/ru-nsh-0045.flac']; from gru_audio.cli import main; main()"
    done = run(code, GRU_AUDIO_INSTRUCTIONS="mmx")
    assert done.returncode == 1
    assert done.stderr.startswith("error: GRU_AUDIO_INSTRUCTIONS=mmx: this machine has baseline")
    assert done.stderr.count("\n") == 1


def test_no_library_for_a_machine_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(GruAudioError, match="no compiled core for linux on riscv64; install"):
        instruction_sets.supported()


# Signals


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), KeyboardInterrupt(15)])
def test_a_signal_while_arguments_are_converted_stays_one(stop: KeyboardInterrupt) -> None:
    class Interrupted(library.Floats):
        @classmethod
        def from_param(cls, array: object) -> Any:
            raise stop

    with pytest.raises(KeyboardInterrupt) as caught:
        library.function("gru_interface", [Interrupted], library.Int)(np.zeros(1, np.float32))
    assert caught.value.args == stop.args
    with pytest.raises(ctypes.ArgumentError, match="an array of float64"):
        library.function("gru_interface", [library.Floats], library.Int)(np.zeros(1))


# The interface


def declarations() -> str:
    """Of the core's structs and functions that Python uses; with comments, which tell how arrays lie in memory."""
    pattern = r"^struct gru_(?!audio)\w+ \{.*?^\}|^GRU_API [^;{]*\bgru_(?!audio_)\w+\([^;{]*"
    files = sorted(NATIVE.rglob("*.[ch]"), key=lambda path: path.name)
    found = [text for path in files for text in re.findall(pattern, path.read_text("utf-8"), re.M | re.S)]
    return " ".join(" ".join(found).split())


def test_the_interfaces_number_is_that_of_its_declarations() -> None:
    number = zlib.crc32(declarations().encode()) >> 1
    in_c = re.search(r"INTERFACE = (\w+)", (NATIVE / "processor.c").read_text("utf-8"))
    told = f"the interface changed: INTERFACE in processor.c and instruction_sets.py must be 0x{number:08X}"
    assert in_c is not None and int(in_c[1], 16) == instruction_sets.INTERFACE == number, told


@pytest.mark.parametrize(
    ("name", "number"),
    [(b"gru_interface", instruction_sets.INTERFACE + 1), (b"gru_interfacX", instruction_sets.INTERFACE)],
)
def test_a_core_of_other_sources_is_refused_in_one_line(name: bytes, number: int, tmp_path: Path) -> None:
    """With another number, or from before there was one."""
    for path in Path(instruction_sets.load("baseline").path).parent.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes().replace(b"gru_interface", name))
    code = (
        "import sys; from gru_audio.native import instruction_sets; from gru_audio.cli import main; "
        f"instruction_sets.INTERFACE = {number}; sys.argv[1:] = ['preview', 'samples/ru-nsh-0045.flac']; main()"
    )
    done = run(code, GRU_AUDIO_LIBRARIES=str(tmp_path))
    assert done.returncode == 1
    assert "compiled from other sources than this package's; run `python hatch_build.py`" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("damage", [b"", b"no library", None])
def test_a_damaged_core_is_refused_in_one_line(damage: bytes | None, tmp_path: Path) -> None:
    """Empty, of other bytes, or without what it should tell."""
    for path in Path(instruction_sets.load("baseline").path).parent.iterdir():
        whole = path.read_bytes().replace(b"gru_instruction_sets", b"gru_instruction_setX")
        (tmp_path / path.name).write_bytes(whole if damage is None else damage)
    code = "import sys; from gru_audio.cli import main; sys.argv[1:] = ['voices']; main()"
    done = run(code, GRU_AUDIO_LIBRARIES=str(tmp_path))
    assert done.returncode == 1
    assert "install gru-audio again" in done.stderr
    assert done.stderr.count("\n") == 1


# Arguments


def test_arrays_of_another_kind_are_refused() -> None:
    good, out = np.ones(4, np.float32), np.empty(4, np.float32)
    emphasis = library.function(
        "gru_de_emphasis", [library.Floats, library.Int, library.Float, library.Float, library.Floats]
    )
    for bad in (np.ones(4), np.ones(8, np.float32)[::2], np.ones((4, 4), np.float32, order="F")[0]):
        with pytest.raises(Exception, match="argument 1: TypeError"):
            emphasis(bad, 4, 0.5, 0.0, out)
    emphasis(good, 4, 0.5, 0.0, out)
    np.testing.assert_array_equal(out, [1, 1.5, 1.75, 1.875])


def test_arrays_that_may_only_be_read_and_empty_ones_are_taken() -> None:
    fixed = np.ones(2, np.float32)
    fixed.flags.writeable = False
    np.testing.assert_array_equal(de_emphasis(fixed, 0.5), [1, 1.5])
    assert de_emphasis(np.zeros(0, np.float32), 0.5).size == 0


class _Pair(library.Struct):
    _fields_ = (("n", library.Int), ("numbers", library.Doubles))


def test_a_struct_holds_on_to_its_arrays_and_knows_its_fields() -> None:
    pair = _Pair(n=3, numbers=np.arange(3.0))
    assert pair.n == 3
    np.testing.assert_array_equal(pair.held["numbers"], [0, 1, 2])
    with pytest.raises(TypeError, match=r"_Pair: fields \['m', 'numbers'\]"):
        _Pair(n=3, m=4)
    with pytest.raises(TypeError, match="Doubles: an array of float32"):
        _Pair(n=3, numbers=np.zeros(3, np.float32))


def test_a_struct_can_neither_be_copied_nor_pickled() -> None:
    """Its addresses would be those of the arrays of the first, which need not live as long, nor in this process."""
    struct = _Pair(n=3, numbers=np.arange(3.0))
    for way in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="_Pair holds addresses, and can neither be copied nor pickled"):
            way(struct)


def test_aligned_memory_begins_where_a_cache_line_does() -> None:
    for size in (1, 1000):
        memory = library.aligned(size, np.float64)
        assert memory.shape == (size,)
        assert memory.ctypes.data % 64 == 0
