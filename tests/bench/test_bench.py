"""gru-audio bench: its figures agree with each other, with the networks and with what a machine can do."""

import json
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
from support.small import RATE, small_config
from typer.testing import CliRunner

from gru_audio.bench import limits as bench_limits
from gru_audio.bench import peers
from gru_audio.bench.cases import Case, find_cases, find_engines, known_cases, random_voice
from gru_audio.bench.limits import Limits, ReadSpeed, measure_limits, read_bytes_per_s
from gru_audio.bench.run import BenchPlan, run_bench
from gru_audio.bench.stages import STAGES, Int8Stages
from gru_audio.bench.turns import Speed, Task, frames_a_turn, take_turns
from gru_audio.bench.work import Work, bound_of, work_of
from gru_audio.cli import app
from gru_audio.cli.bench import print_report
from gru_audio.config import Config, preset_names, to_toml
from gru_audio.errors import ConfigError
from gru_audio.native import library
from gru_audio.network.blocks import RECURRENT_WEIGHT
from gru_audio.progress import Progress
from gru_audio.synthesis.engines import ENGINES, choose_engine
from gru_audio.synthesis.folding import fold
from gru_audio.synthesis.int8.engine import make_room
from gru_audio.synthesis.int8.packing import STATE_ONE, pack

INT8_LOOP = [*STAGES, "overlap and rest"]
ROW_FACTOR = 127  # what a table row's bytes are multiplied by
SHORT = ("--seconds", "0.02", "--turns", "1")


def sparse_config() -> Config:
    return small_config(gru_size=32, samples_per_step=2, recurrent_density=(0.25, 0.25, 0.5))


@pytest.fixture(scope="module")
def case_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("case") / "small.toml"
    path.write_text(to_toml(sparse_config()), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def document(case_file: Path) -> dict[str, Any]:
    result = CliRunner().invoke(
        app, ["bench", "--case", str(case_file), *SHORT, "--json"], catch_exceptions=False
    )
    assert result.exit_code == 0
    found: dict[str, Any] = json.loads(result.stdout)
    return found


# The command


def test_json_has_every_engine_and_its_parts(document: dict[str, Any], case_file: Path) -> None:
    assert [row["engine"] for row in document["synthesis"]] == list(ENGINES)
    assert document["machine"].keys() >= {"cpu", "cores", "load", "python", "torch", "instructions"}
    assert (document["seconds"], document["turns"]) == (0.02, 1)
    assert [row["crops_per_step"] > 0 for row in document["training"]] == [True]
    assert document["peers"] == []
    assert document["engine_choice"] == {str(case_file): ", ".join(choose_engine(sparse_config()))}


def test_json_agrees_with_itself(document: dict[str, Any]) -> None:
    for row in document["synthesis"]:
        speeds = [row["one_stream"], row["each_core"], row["many_streams"]]
        for speed in filter(None, speeds):
            assert speed["times_real_time"] == pytest.approx(speed["samples_per_s"] / RATE)
            assert speed["us_per_sample"] == pytest.approx(1e6 / speed["samples_per_s"])
        stages = row["stages"]
        loop = INT8_LOOP if row["engine"] == "int8" else ["sample loop", "rest"]
        assert list(stages) == ["front end", "random numbers", *loop]
        assert all(us > 0 for stage, us in stages.items() if "rest" not in stage)
        assert sum(stages.values()) == pytest.approx(row["one_stream"]["us_per_sample"])
        assert row["bound"]["us_per_sample"] == max(row["bound"]["read_us"], row["bound"]["multiply_us"])
        if row["each_core"]:
            ratio = row["each_core"]["samples_per_s"] / row["one_stream"]["samples_per_s"]
            assert row["times_one_stream"] == pytest.approx(ratio)
    in_step = [row["each_core"] is None for row in document["synthesis"]]
    assert in_step == [engine == "torch" for engine in ENGINES]


def test_a_table_in_a_pipe(case_file: Path) -> None:
    options = ["--engine", "int8", *SHORT, "--no-training"]
    said = CliRunner().invoke(app, ["bench", "--case", str(case_file), *options], catch_exceptions=False)
    assert not said.stderr
    lines = said.stdout.splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("synthesis"))
    assert lines[head].split()[1:4] == ["engine", "samples/s", "x"]
    assert lines[head + 1].split()[:2] == [str(case_file), "int8"]
    assert "\x1b" not in said.stdout
    assert not any(line.startswith("training") for line in lines)
    assert any(line.startswith("one core reads") for line in lines)
    assert lines[1].startswith(
        f"engine auto for {case_file}: {choose_engine(sparse_config())[0]}, the fastest "
    )
    head = next(i for i, line in enumerate(lines) if line.startswith("µs a sample"))
    assert lines[head].split()[4:] == ["front", "end", "random", "numbers", *" ".join(INT8_LOOP).split()]


def test_a_table_in_a_terminal(case_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm-256color", "COLUMNS": "140"}.items():
        monkeypatch.setenv(name, value)
    options = ["--engine", "int8", *SHORT, "--no-training"]
    said = CliRunner().invoke(app, ["bench", "--case", str(case_file), *options], catch_exceptions=False)
    assert "\x1b[1msynthesis" in said.stdout


def test_a_gpu_has_a_column_of_its_own(document: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """Which no core's limit is a limit of."""
    report = SimpleNamespace(
        **vars(run_bench(BenchPlan([Case("x", sparse_config(), False)], ["int8"], 0.02, 1)))
    )
    speed = report.synthesis[0]
    on_gpu = replace(
        speed, engine="torch", each_core=None, times_one_stream=None, bound=None, n_most=2112,
        most_streams=Speed.of(1_000 * RATE, RATE),
    )  # fmt: skip
    report.device, report.synthesis = "NVIDIA H100", (speed, on_gpu)
    print_report(cast(Any, report))
    lines = capsys.readouterr().out.splitlines()
    assert "engine torch and training: NVIDIA H100; the others one core and more" in lines
    head = next(i for i, line in enumerate(lines) if line.startswith("synthesis"))
    assert lines[head].endswith("2,112 clips x")
    assert lines[head + 1].split()[-1] == "-"
    assert lines[head + 2].split()[-1] == "1000"
    assert document["device"] == "cpu"


def test_a_device_that_is_not_there_is_told() -> None:
    with pytest.raises(ConfigError, match="device 'nowhere' does not exist"):
        run_bench(BenchPlan([Case("x", sparse_config(), False)], ["torch"], device="nowhere"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            ["--case", "voice-17k"],
            ("case 'voice-17k' does not exist", "voice-16k", "lpcnet-size", ".toml file"),
        ),
        (["--case", "nowhere.toml"], ("nowhere.toml", "neither a file, a run nor a preset")),
        (["--engine", "int4"], ("engine 'int4' does not exist", "int8")),
    ],
)
def test_bad_options_are_one_line(options: list[str], says: tuple[str, ...]) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "gru_audio", "bench", *options], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    for part in says:
        assert part in result.stderr


@pytest.mark.parametrize("options", [["--turns", "0"], ["--seconds", "0"]])
def test_options_out_of_range(options: list[str]) -> None:
    assert CliRunner().invoke(app, ["bench", *options]).exit_code == 2


def test_an_engine_that_cannot_run_the_case() -> None:
    case = Case("lstm", small_config(cell="lstm"), trains=False)
    with pytest.raises(ConfigError, match=r"engine 'int8' runs a gru with a tree.*; use the engine torch"):
        run_bench(BenchPlan([case], ["int8"], seconds=0.02, turns=1))


def test_engines_that_auto_picks_are_told_by_case(capsys: pytest.CaptureFixture[str]) -> None:
    cases = [Case(f"lstm {i}", small_config(cell="lstm"), trains=False) for i in (1, 2)]
    report = run_bench(
        BenchPlan([*cases, Case("gru", small_config(), False)], ["torch"], 0.02, 1, training=False)
    )
    assert list(report.engine_choice) == ["lstm 1", "lstm 2", "gru"]
    print_report(report)
    lstm, gru = (line for line in capsys.readouterr().out.splitlines() if line.startswith("engine auto"))
    assert lstm.startswith("engine auto for lstm 1, lstm 2: torch, the others run a gru with a tree")
    assert gru.startswith("engine auto for gru: ")


# Cases


def test_known_cases_are_the_presets_and_more() -> None:
    cases = known_cases()
    assert set(preset_names()) <= cases.keys()
    for name, case in cases.items():
        assert case.trains == (name in preset_names())
        density = case.config.model.recurrent_density
        assert (f"{name}-dense" in cases) == (case.trains and density != (1.0, 1.0, 1.0))
    lpcnet = cases["lpcnet-size"].config.model
    assert lpcnet.gru_size * lpcnet.readout_size == 384 * 3 * 16  # its second GRU's product has 16 units
    assert find_cases([]) == list(cases.values())
    assert [case.name for case in find_cases(["tiny", "tiny"])] == ["tiny"]
    assert find_engines([]) == list(ENGINES)
    assert find_engines(["torch", "int8", "torch"]) == ["torch", "int8"]


def test_a_random_voice_is_pruned_and_the_same_again() -> None:
    config = sparse_config()
    weight = random_voice(config).tensors[RECURRENT_WEIGHT]
    assert np.array_equal(weight, random_voice(config).tensors[RECURRENT_WEIGHT])
    blocks = weight[:32].reshape(2, 16, 8, 4).swapaxes(1, 2)  # the reset gate's 16
    full = (blocks != 0).all((2, 3)).sum()
    assert full == 4


# Work and limits


def test_each_weight_of_a_dense_network_is_multiplied_once_a_step() -> None:
    """Of one with a softmax; all that is read besides are rows of tables."""
    voice = random_voice(small_config(output="softmax"))
    matrices = ("cell.weight_hh_l0", "readout_hidden.weight", "output.weight")
    n_weights = sum(voice.tensors[f"sample_network.{name}"].size for name in matrices)
    tables = fold(voice).step_tables, fold(voice).readout_tables
    for engine in ("float32", "torch"):
        work = work_of(voice, engine)
        assert work.macs_per_sample == n_weights
        assert 0 < work.bytes_per_sample - 4 * n_weights < sum(table.nbytes for table in tables) / 100


def test_int8_work_lies_in_what_is_packed() -> None:
    """A step reads all recurrent blocks, and of the tables and the tree a small part."""
    network = pack(fold(random_voice(small_config())))
    room = make_room(network)
    memory = sum(array.nbytes for array in (*network.held.values(), *room.held.values()))
    blocks = network.held["blocks"].nbytes + network.held["readout_blocks"].nbytes
    work = work_of(random_voice(small_config()), "int8")
    assert blocks < work.working_set_bytes < memory / 10
    assert work.working_set_bytes < work.bytes_per_sample < 2 * work.working_set_bytes
    assert work.macs_per_sample > blocks


def test_what_pruning_took_is_not_counted() -> None:
    """Nor is it read: with twice as many blocks for a gate there is so much more, of two samples a step half of it."""
    config = small_config(gru_size=32, samples_per_step=2, recurrent_density=(0.5, 0.25, 0.5))
    voices = random_voice(sparse_config()), random_voice(config)
    kept, more_kept = (int(np.count_nonzero(voice.tensors[RECURRENT_WEIGHT])) for voice in voices)
    work, more = (work_of(voice, "float32") for voice in voices)
    assert more.macs_per_sample - work.macs_per_sample == (more_kept - kept) / 2 > 0
    assert more.working_set_bytes - work.working_set_bytes == 4 * (more_kept - kept)
    work, more = (work_of(voice, "int8") for voice in voices)
    assert (
        more.macs_per_sample - work.macs_per_sample == 4 * 64 / 2
    )  # four blocks of 64 bytes, and their places
    assert more.bytes_per_sample - work.bytes_per_sample == 4 * (64 + 2) / 2
    assert more.working_set_bytes - work.working_set_bytes == 4 * (64 + 2)


def test_what_pruning_took_of_the_readout_is_not_counted() -> None:
    """Of 48 x 64 weights for each of two samples: three blocks high and 16 wide, an even number of them left."""
    configs = [
        small_config(gru_size=64, readout_size=48, samples_per_step=2, readout_density=density)
        for density in (1.0, 0.5, 0.25)
    ]
    dense, half, quarter = (work_of(random_voice(config), "float32") for config in configs)
    for more, less, n_blocks in ((dense, half, 8), (half, quarter, 4)):
        assert more.macs_per_sample - less.macs_per_sample == 3 * n_blocks * 64
        assert more.bytes_per_sample - less.bytes_per_sample == 3 * n_blocks * 64 * 4
    dense, half, quarter = (work_of(random_voice(config), "int8") for config in configs)
    for more, less, n_blocks in ((dense, half, 8), (half, quarter, 4)):
        assert more.macs_per_sample - less.macs_per_sample == 3 * n_blocks * 64
    # Where all blocks are there, their places are not read.
    assert dense.bytes_per_sample - half.bytes_per_sample == 3 * (16 * 64 - 8 * 65)
    assert half.bytes_per_sample - quarter.bytes_per_sample == 3 * 4 * 65


def test_a_softmax_needs_all_its_rows() -> None:
    tree, softmax = (
        work_of(random_voice(small_config(output=output)), "torch") for output in ("tree", "softmax")
    )
    assert softmax.macs_per_sample - tree.macs_per_sample == (256 - 8) * 10


def test_every_engine_has_its_number_formats() -> None:
    voice = random_voice(small_config())
    assert all(work_of(voice, engine).bytes_per_sample > 0 for engine in ENGINES)


def test_the_bound_is_the_longer_time() -> None:
    limits = Limits((ReadSpeed(1024, 1e9), ReadSpeed(4096, 0.5e9)), 1e9, 4e9, "baseline")
    assert limits.read_bytes_per_s(512) == 1e9
    assert limits.read_bytes_per_s(2048) == pytest.approx(0.75e9)
    work = Work(bytes_per_sample=1000, working_set_bytes=1024, macs_per_sample=2000)
    bound = bound_of(work, "float32", limits)
    assert bound.read_us == pytest.approx(1.0)
    assert bound.multiply_us == pytest.approx(2.0)
    assert (bound.us_per_sample, bound.limited_by) == (bound.multiply_us, "multiplying")
    bound = bound_of(work, "int8", limits)
    assert (bound.us_per_sample, bound.limited_by) == (bound.read_us, "reading")


def test_limits_of_this_machine_are_plausible() -> None:
    assert 1e8 < read_bytes_per_s(1 << 14) < 1e13
    limits = measure_limits()
    speeds = [point.bytes_per_s for point in limits.read]
    assert speeds == sorted(speeds, reverse=True)
    assert 1e8 < speeds[-1] <= speeds[0] < 1e13
    assert 1e8 < limits.float32_macs_per_s < 1e13
    assert 1e8 < limits.int8_macs_per_s < 1e14
    assert limits.int8_instructions == library.instructions()


@pytest.mark.usefixtures("instructions")
def test_the_loops_that_measure_do_all_their_work() -> None:
    rng = np.random.default_rng(0)
    numbers = rng.integers(-1000, 1000, 192)
    assert bench_limits.read(numbers, 192, 3) == 3 * numbers.sum()
    weights = rng.integers(-60, 61, bench_limits.byte_products()).astype(np.int8)
    fours = rng.integers(0, 127, (64, 4)).astype(np.int8)
    by_column = weights.astype(np.int64).reshape(-1, 4).sum(0)
    expected = (fours.astype(np.int64)[np.arange(100) % 64] @ by_column).sum()
    assert bench_limits.multiply_bytes(weights, fours, 100) == expected
    n_sums = bench_limits.float_products() // 16
    assert bench_limits.multiply_floats(100) == pytest.approx(
        n_sums * (n_sums - 1)
    )  # each tends to twice its k


# Stages


def plain_rows(rows: npt.NDArray[np.int8]) -> npt.NDArray[np.int64]:
    """Rows of tables (..., 64) as they lie in memory to the order of the units; see native/int8/int8_gru.h."""
    turned = rows.reshape(*rows.shape[:-1], 4, 4, 4).swapaxes(-3, -2).reshape(rows.shape)
    return np.asarray(turned, np.int64)


def state_bytes(stored: npt.NDArray[np.int8]) -> npt.NDArray[np.int64]:
    """A state's bytes as they are multiplied: without a sign on processors whose activations have an offset."""
    has_offset = library.instructions().startswith("avx")
    return stored.view(np.uint8 if has_offset else np.int8).astype(np.int64)


@pytest.mark.usefixtures("instructions")
def test_stages_do_the_work_of_the_loop() -> None:
    """They leave the readout's values and the codes that plain arithmetic gives."""
    stages = Int8Stages(fold(random_voice(sparse_config())), 2_001)
    assert [run() for run in stages.runs().values()] == [2_002] * 4
    network, room = stages.network.held, stages.room.held

    stages.runs()["products"]()
    state, at = state_bytes(room["activations"]), 0
    expected = room["starts"].reshape(4, 2, 32)[:, 0].reshape(4, 2, 16).astype(np.int64)
    counts = [stages.network.n_reset_blocks, stages.network.n_update_blocks, stages.network.n_new_blocks]
    expected = expected[[0, 1, 3]]  # of r, z and n's product
    for gate, count in enumerate(counts):
        for i in range(2 * count):  # the two groups' in turn
            activations = state[network["columns"][at] + np.arange(4)]
            expected[gate, i % 2] += network["blocks"][at].astype(np.int64) @ activations
            at += 1
    assert at == len(network["blocks"])
    assert np.array_equal(room["sums"].reshape(3, 2, 32)[:, 0].reshape(3, 2, 16), expected)

    new_state = state_bytes(room["activations"])[:32].reshape(8, 4)
    blocks = network["readout_blocks"].reshape(2, 8, 16, 4).astype(np.int64)  # of each sample of a step
    sums = room["readout_starts"].reshape(2, 64)[:, :16] + np.einsum("skrc,kc->sr", blocks, new_state)
    assert np.array_equal(room["readout_sums"].reshape(2, 64)[:, :16], sums)
    code = stages.codes[-1]
    rows = np.sum(
        [plain_rows(table[code[k]].reshape(64)) for k, table in enumerate(network["readout_tables"])], axis=0
    )
    value = np.maximum((sums[1] + ROW_FACTOR * rows[:16]) * network["readout_units"][:16], 0)
    assert np.abs(readout_values(stages)[:16] - value).max() <= 0.51
    assert 0 < value.max() < 1 << 14


def readout_values(stages: Int8Stages) -> npt.NDArray[np.int64]:
    """The whole numbers that the readout left, each in two times 7 bits."""
    high, low = stages.room.held["row"].reshape(-1, 2, 16).astype(np.int64).swapaxes(0, 1)
    return np.asarray(((high << 7) + low).ravel(), np.int64)


@pytest.mark.usefixtures("instructions")
def test_a_stage_steps_the_state() -> None:
    """One step of 80 units, in two groups of 64, is what plain arithmetic gives."""
    config = small_config(gru_size=80, samples_per_step=2, recurrent_density=(0.25, 0.25, 0.5))
    stages = Int8Stages(fold(random_voice(config)), 2)
    runs = stages.runs()
    runs["products"]()
    runs["gates, readouts"]()
    network, new = stages.network.held, stages.room.held["hidden"] / STATE_ONE
    own = np.zeros((2, 64))
    own.ravel()[:80] = stages.hidden
    rows = ROW_FACTOR * np.sum(
        [
            plain_rows(table[stages.codes[0, k]].reshape(2, 3, 64))
            for k, table in enumerate(network["step_tables"])
        ],
        axis=0,
    )
    room = stages.room.held
    r, z, inner = room["sums"].reshape(2, 3, 64).swapaxes(0, 1)
    r, z, outer = r + rows[:, 0], z + rows[:, 1], room["starts"].reshape(2, 4, 64)[:, 2] + rows[:, 2]
    steps = 2**15 / 12  # of the gates' fixed-point numbers
    unit_r, unit_z, unit_n = network["gate_units"].swapaxes(0, 1) / steps
    own_r, own_z, own_n = network["own_weights"].swapaxes(0, 1) * own / 2 / steps
    half_inner = inner * unit_n + own_n
    reset, update = (1 / (1 + np.exp(-x)) for x in (r * unit_r + own_r, z * unit_z + own_z))
    n = np.tanh(outer * unit_n + 2 * reset * half_inner)
    expected = n + update * (own - n)
    assert np.abs(new - expected.ravel())[:80].max() < 0.002
    assert np.abs(new[:80] - stages.hidden).max() > 0.1


@pytest.mark.usefixtures("instructions")
def test_a_stage_draws_the_codes_that_its_tree_gives() -> None:
    stages = Int8Stages(fold(random_voice(small_config())), 300)
    network, values = stages.network.held, readout_values(stages)[:16]
    blocks = network["tree_blocks"].reshape(17, -1, 16, 4).astype(np.int64)
    sums = np.einsum("skrc,kc->sr", blocks, values.reshape(-1, 4))
    logits = sums * network["tree_units"].astype(np.float64) + network["tree_bias"]
    right = (1 + np.tanh(logits / 2)) / 2  # (17, 16)
    p = np.ones(1)  # of all codes that begin with the bits so far
    for level in range(8):
        codes = np.arange(p.size)
        subtree = 0 if level < 4 else 1 + (codes >> (level - 4))
        node = (1 << level % 4) - 1 + (codes & ((1 << level % 4) - 1))
        branch = right[subtree, node]
        p = np.stack([p * (1 - branch), p * branch], 1).ravel()
    expected = np.searchsorted(np.cumsum(p), stages.uniforms, side="right")
    assert (stages.drawn == expected).mean() > 0.98  # rounding decides at the edges of intervals
    assert np.abs(stages.drawn - expected).max() <= 1
    assert np.unique(stages.drawn).size > 100


# Turns


def test_tasks_take_turns_and_medians_are_kept() -> None:
    order, reports = list[str](), list[Progress]()

    def task(name: str) -> Task:
        def run() -> int:
            order.append(name)
            return 100

        return Task(name, "speed", run)

    speeds = take_turns([task("a"), task("b")], 3, reports.append)
    assert order == ["a", "b"] * 3
    assert speeds.keys() == {("a", "speed"), ("b", "speed")}
    assert [report.done for report in reports] == [0, 1, 2, 3, 4, 5, 6]
    assert {report.total for report in reports} == {6}


def test_a_slow_engine_gets_less_audio(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("gru_audio.bench.turns.time.perf_counter", lambda: clock[0])

    def generate(n_frames: int, s_per_frame: float) -> int:
        clock[0] += n_frames * s_per_frame
        return n_frames * 100

    # Frames of 10 ms: a tenth of real time, and ten times real time.
    assert frames_a_turn(lambda n: generate(n, 0.1), 10_000, 2.0) == 20
    assert frames_a_turn(lambda n: generate(n, 0.001), 10_000, 2.0) == 200


def test_streams_run_at_the_same_time() -> None:
    """All cores' figure is of synthesis in several threads, none of them this one."""
    seen = set[str]()
    case = Case("small", small_config(), trains=False)
    run_bench(
        BenchPlan([case], ["float32"], seconds=0.02, turns=1, training=False),
        lambda report: seen.update(thread.name for thread in threading.enumerate()),
    )
    assert any(name.startswith("ThreadPoolExecutor") for name in seen)
    assert not any(thread.name.startswith("ThreadPoolExecutor") for thread in threading.enumerate())


# Peers


def test_peers_make_the_samples_that_they_say() -> None:
    found, _ = peers.find_peers()
    hops = {"nn.GRUCell loop, 896": 200, "torchaudio WaveRNN, 512": 200, "vocos mel-24khz": 256}
    assert "nn.GRUCell loop, 896" in {peer.name for peer in found}
    for peer in found:
        assert peer.generate(2) == 2 * hops[peer.name]


def test_a_peer_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vocos.heads", None)
    monkeypatch.setitem(sys.modules, "torchaudio.models", None)
    found, missing = peers.find_peers()
    assert missing == ["torchaudio", "vocos"]
    assert len(found) == 1


def test_peers_are_timed_with_the_engines(case_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = peers.Peer("made up", 24_000, lambda n_frames: 100 * n_frames)
    monkeypatch.setattr("gru_audio.bench.run.find_peers", lambda: ([peer], ["vocos"]))
    options = ["--engine", "int8", *SHORT, "--no-training", "--peers", "--json"]
    said = CliRunner().invoke(app, ["bench", "--case", str(case_file), *options], catch_exceptions=False)
    document = json.loads(said.stdout)
    (row,) = document["peers"]
    assert row["peer"] == "made up"
    assert row["one_stream"]["times_real_time"] == pytest.approx(row["one_stream"]["samples_per_s"] / 24_000)
    assert document["missing_peers"] == ["vocos"]
    assert said.stderr.startswith("vocos is not installed")


def test_a_speed_in_three_units() -> None:
    assert Speed.of(32_000.0, 16_000) == Speed(32_000.0, 2.0, 31.25)
