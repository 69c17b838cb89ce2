"""The config: presets, TOML there and back, strictness, derived values."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gru_audio.config import (
    MEL_PRESETS,
    PREP_TABLES,
    Config,
    MelConfig,
    ModelConfig,
    SignalConfig,
    TrainConfig,
    config_from_dict,
    load_config,
    load_mel_config,
    preset_names,
    to_toml,
)
from gru_audio.errors import ConfigError
from gru_audio.voice.run_folder import CONFIG_FILE

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def write(folder: Path, text: str, name: str = "c.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


# Presets


def test_there_are_these_presets() -> None:
    assert preset_names() == ["ljspeech-22k", "studio-48k", "tiny", "universal-16k", "voice-16k", "voice-24k"]
    assert sorted(MEL_PRESETS) == [
        *("coqui-22k", "espnet-24k", "f5-tts-24k", "hifigan-22k", "speech-16k", "speechbrain-16k"),
        *("tacotron2-22k", "univoc-16k", "vocos-24k", "wavernn-22k", "whisper-16k"),
    ]


@pytest.mark.parametrize(
    "name", ["ljspeech-22k", "studio-48k", "tiny", "universal-16k", "voice-16k", "voice-24k"]
)
def test_every_preset_loads_and_survives_toml(name: str, tmp_path: Path) -> None:
    config = load_config(name)

    again = load_config(write(tmp_path, to_toml(config)))
    assert again == config
    assert again.model_dump() == config.model_dump()
    assert config_from_dict(json.loads(json.dumps(config.model_dump())), "voice") == config


def test_presets_say_what_their_names_say() -> None:
    assert load_config("universal-16k").model.gru_size == 896
    assert load_config("voice-16k").model.gru_size == 384
    assert load_config("ljspeech-22k").mel == MEL_PRESETS["hifigan-22k"]
    assert [name for name in preset_names() if load_config(name).model.is_pruned] == [
        "voice-16k",
        "voice-24k",
    ]
    assert load_config("tiny").mel == MEL_PRESETS["speech-16k"] == MelConfig()


def test_a_preset_can_be_given_as_a_path_and_a_file_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "[model]\ngru_size = 17", "tiny")
    assert load_config("tiny").model.gru_size == 17
    assert load_config(Path("voice-16k")).model.gru_size == 384


def test_mel_contracts_by_name_or_file(tmp_path: Path) -> None:
    assert load_mel_config("univoc-16k") == MEL_PRESETS["univoc-16k"]
    assert load_mel_config("ljspeech-22k") == MEL_PRESETS["hifigan-22k"]
    assert load_mel_config(write(tmp_path, "[mel]\nn_mels = 64")) == MelConfig(n_mels=64)
    with pytest.raises(
        ConfigError, match=r"mel contract 'hifigan' is not known; choose one of speech-16k, .*TOML"
    ):
        load_mel_config("hifigan")
    for written in ("=", "log=db,", ",log=db"):
        with pytest.raises(
            ConfigError, match=rf"^--mel '{written}': write it as key=value,key=value, for ex"
        ):
            load_mel_config(written)
    with pytest.raises(ConfigError, match=r"^--mel 'log=db,log=ln': gives log twice; give it once"):
        load_mel_config("log=db,log=ln")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            "[mel]\nsample_rate_hz = 22050\nwindow_samples = 1024\nhop_samples = 256",
            MEL_PRESETS["hifigan-22k"],
        ),
        (
            "[mel]\nn_fft = 2048\nwindow_samples = 1100\nhop_samples = 275\npadding = 'center'",
            MelConfig(n_fft=2048, window_samples=1100, hop_samples=275, padding="center"),
        ),
        # What else a config holds is no matter to a contract, whatever is wrong with it.
        (
            "[mel]\nhop_samples = 202\n[model]\nsamples_per_step = 4\n[train]\nsteps = -1",
            MelConfig(hop_samples=202),
        ),
    ],
)
def test_a_contract_is_checked_by_itself(tmp_path: Path, text: str, wanted: MelConfig) -> None:
    assert load_mel_config(write(tmp_path, text)) == wanted


def test_a_contract_file_with_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"c.toml: \[mel\] unknown key 'hop'; did you mean 'hop_samples'"):
        load_mel_config(write(tmp_path, "[mel]\nhop = 3"))
    with pytest.raises(ConfigError, match=r"c\.toml: unknown table 'hop_samples'"):
        load_mel_config(write(tmp_path, "hop_samples = 256"))


def test_prep_wants_no_network_of_a_contract() -> None:
    overrides = ["mel.hop_samples=275", "mel.padding=center", "train.steps=3"]
    with pytest.raises(ConfigError, match=r"must be a multiple of model\.samples_per_step"):
        load_config("voice-16k", overrides)
    assert load_config("voice-16k", overrides, PREP_TABLES).mel.hop_samples == 275
    with pytest.raises(ConfigError, match=r"\[train\] unknown key 'stepz'; did you mean 'steps'"):
        load_config("tiny", ["train.stepz=3"], PREP_TABLES)


@pytest.mark.parametrize(
    ("hop_samples", "given", "taken"),
    [(256, 1600, 1536), (200, 1601, 1600), (200, 1700, 1800), (256, 5, 256), (275, 2048, 1925)],
)
def test_crop_lengths_follow_the_hop(hop_samples: int, given: int, taken: int) -> None:
    stage = f"{{ from_step = 5, batch_size = 2, crop_samples = {given} }}"
    overrides = [f"mel.hop_samples={hop_samples}", "mel.padding=center", "model.samples_per_step=1"]
    config = load_config("tiny", [*overrides, f"train.crop_samples={given}", f"train.stages=[{stage}]"])
    assert [stage.crop_samples for stage in config.train.all_stages] == [taken, taken]


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, "")) == Config()
    assert load_config(write(tmp_path, "[mel]\n[train]")) == Config()


# There and back


@given(
    n_mels=st.integers(8, 512),
    floor=st.floats(1e-30, 1),
    offset=st.floats(-1e6, 1e6),
    log=st.sampled_from(["ln", "log10", "db"]),
    stride=st.sampled_from([1, 2, 4]),
    rate=st.floats(0, 1, exclude_min=True),
)
def test_toml_round_trip_is_exact(
    n_mels: int, floor: float, offset: float, log: Any, stride: Any, rate: float
) -> None:
    config = Config(
        mel=MelConfig(n_mels=n_mels, floor=floor, offset=offset, log=log),
        model=ModelConfig(samples_per_step=stride),
        train=TrainConfig(learning_rate=rate),
    )
    assert config_from_dict(tomllib.loads(to_toml(config)), "c.toml") == config


# Errors


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[mel]\nhop = 3", "c.toml: [mel] unknown key 'hop'; did you mean 'hop_samples'?"),
        ("[model]\nzzz = 3", "c.toml: [model] unknown key 'zzz'; known are cell, output, gru_size, "),
        ("[modle]\ngru_size = 3", "c.toml: unknown table 'modle'; did you mean 'model'?"),
        ("zzz = 3", "c.toml: unknown table 'zzz'; known are mel, signal, model, prep, train"),
        ("[signal]\nbits = 5", "c.toml: [signal] bits: input should be greater than or equal to 6, got 5"),
        ("[signal]\nbits = 8.0", "c.toml: [signal] bits: input should be a valid integer, got 8.0"),
        ("[signal]\nbits = true", "c.toml: [signal] bits: input should be a valid integer, got True"),
        ("[signal]\nbits = '8'", "c.toml: [signal] bits: input should be a valid integer, got '8'"),
        (
            "[model]\ncell = 'gruu'",
            "c.toml: [model] cell: input should be 'gru', 'lstm' or 'rnn', got 'gruu'",
        ),
        (
            "[model]\nsamples_per_step = 3",
            "c.toml: [model] samples_per_step: input should be 1, 2 or 4, got 3",
        ),
        ("[prep]\ntrim_db = nan", "c.toml: [prep] trim_db: input should be a finite number, got nan"),
        ("[mel]\nfloor = 0.0", "c.toml: [mel] floor: input should be greater than or equal to 0.0000"),
        ("[mel]\nfloor = 1e-60", "c.toml: [mel] floor: "),
        ("[mel]\nscale = 0", "c.toml: [mel] scale: "),
        (
            "[train]\ncode_noise = 128",
            "c.toml: [train] code_noise: input should be less than or equal to 127, got",
        ),
        ("[mel]\nwindow_samples = 1025", "c.toml: [mel] window_samples (1025) must not exceed n_fft (1024)"),
        ("[mel]\nhop_samples = 900", "c.toml: [mel] hop_samples (900) must not exceed window_samples (800)"),
        (
            "[mel]\nhop_samples = 201",
            "c.toml: [mel] n_fft - hop_samples (1024 - 201) must be even with padding 'same'",
        ),
        ("[mel]\nn_fft = 1025\nhop_samples = 201", "c.toml: [mel] n_fft (1025) must be even"),
        (
            "[mel]\nf_max_hz = 8001",
            "c.toml: [mel] f_min_hz (0) < f_max_hz (8001) <= half the sample rate (8000)",
        ),
        ("[mel]\nf_min_hz = 8000", "c.toml: [mel] f_min_hz (8000) < f_max_hz (8000)"),
        (
            "[signal]\npitch_min_hz = 500",
            "c.toml: [signal] pitch_max_hz (500) must be at least 1.5 times pitch_min_hz (500)",
        ),
        (
            "[prep]\nvalid_fraction = 0.5\ntest_fraction = 0.5",
            "c.toml: [prep] valid_fraction + test_fraction (0.5 + 0.5) must be below 1",
        ),
        (
            "[mel]\nhop_samples = 202\n[model]\nsamples_per_step = 4",
            "c.toml: mel.hop_samples (202) must be a multiple of model.samples_per_step (4)",
        ),
        (
            "[model]\nrecurrent_density = [1.0, 0.5, 1.0]\n[train]\nsteps = 40_000",
            "c.toml: train.prune_start_step (10000) < train.prune_end_step (50000) <= train.steps (40000) "
            "must hold where model.recurrent_density or model.readout_density is below 1",
        ),
        (
            "[model]\nrecurrent_density = [1.0, 0.5, 1.0]\n[train]\nprune_start_step = 50_000",
            "c.toml: train.prune_start_step (50000) < train.prune_end_step (50000) <= train.steps (100000)",
        ),
        ("[train]\nprune_start_step = 0", "c.toml: [train] prune_start_step: input should be greater"),
        ("[model]\nrecurrent_density = [0.0, 0.5, 1.0]", "c.toml: [model] recurrent_density: "),
        ("[model]\nrecurrent_density = [0.5, 1.0]", "c.toml: [model] recurrent_density: "),
        (
            "[model]\nreadout_density = 0.3",
            "c.toml: [model] readout_density (0.3) must be 0.25, 0.5, 0.75 or 1",
        ),
        (
            "[model]\ncell = 'lstm'\nrecurrent_density = [1.0, 0.5, 1.0]",
            "c.toml: [model] recurrent_density is for a gru's three gates; leave it out for cell 'lstm'",
        ),
        (
            "[signal]\npitch_max_hz = 2001",
            "c.toml: signal.pitch_max_hz (2001) must be at most an eighth of the",
        ),
        ("mel = 3", "c.toml: [mel] "),
        ("[mel\n", "c.toml: not a readable TOML file: "),
    ],
)
def test_a_mistake_names_file_table_and_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(write(tmp_path, text))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    text = "[mel]\nhop = 3\n[model]\ngru_size = 0"
    with pytest.raises(ConfigError, match=r"unknown key 'hop'.*; \[model\] gru_size: .*got 0"):
        load_config(write(tmp_path, text))


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="config 'big' is neither a file, a run nor a preset; the presets are ljspeech"
    ):
        load_config("big")
    with pytest.raises(ConfigError, match="neither a file, a run nor a preset"):
        load_config(tmp_path)
    (tmp_path / "c.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not a readable TOML file"):
        load_config(tmp_path / "c.toml")


def test_a_run_is_its_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny").mkdir()
    monkeypatch.chdir(tmp_path)
    config = load_config("tiny", ["model.gru_size=32", "mel.n_mels=40"])
    (tmp_path / "tiny" / CONFIG_FILE).write_text(to_toml(config))
    assert load_config(tmp_path / "tiny") == config
    assert load_mel_config(tmp_path / "tiny") == config.mel
    assert load_config("./tiny") == config
    assert load_config("tiny").model.gru_size != 32, "the preset"


def test_a_dense_config_needs_no_schedule() -> None:
    overrides = ["train.prune_start_step=9", "train.prune_end_step=3"]
    assert load_config("tiny", [*overrides, "model.recurrent_density=[1, 1, 1]"]).train.steps == 1000
    with pytest.raises(ConfigError, match=r"prune_start_step \(9\) < "):
        load_config("tiny", [*overrides, "model.recurrent_density=[1, 1, 0.5]"])


def test_a_dict_from_elsewhere_names_its_origin() -> None:
    with pytest.raises(ConfigError, match=r"^a\.safetensors: \[mel\] unknown key 'x'"):
        config_from_dict({"mel": {"x": 1}}, "a.safetensors")


# Overrides


def test_overrides_are_toml_values_or_bare_words() -> None:
    config = load_config(
        "tiny",
        [
            "model.gru_size=48",
            " train.learning_rate = 1e-4",
            "model.cell=lstm",
            'model.output="softmax"',
            "mel.f_min_hz=20",
            "train.steps=1_000",
            "model.gru_size=64",
        ],
    )
    assert config.model.gru_size == 64
    assert config.train.learning_rate == 1e-4
    assert (config.model.cell, config.model.output) == ("lstm", "softmax")
    assert config.mel.f_min_hz == 20
    assert config.train.steps == 1000
    assert config.train.batch_size == load_config("tiny").train.batch_size


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("gru_size=4", "--set 'gru_size=4': write it as table.key=value, for example model.gru_size=256"),
        ("model.gru_size", "write it as table.key=value"),
        ("model.=4", "write it as table.key=value"),
        ("a.b.c=4", "write it as table.key=value"),
        ("model.gru=4", "[model] unknown key 'gru'; did you mean 'gru_size'?"),
        ("modle.gru_size=4", "unknown table 'modle'; did you mean 'model'?"),
        ("model.gru_size=big", "[model] gru_size: input should be a valid integer, got 'big'"),
        ("model.gru_size=", "[model] gru_size: input should be a valid integer, got ''"),
        ("train.learning_rate=inf", "[train] learning_rate: input should be a finite number, got inf"),
    ],
)
def test_a_wrong_override_is_explained(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config("tiny", [override])
    assert message in str(error.value)


def test_an_override_of_what_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'mel' is not a table"):
        load_config(write(tmp_path, "mel = 3"), ["mel.n_mels=80"])


# Values


def test_configs_are_frozen() -> None:
    config = Config()
    with pytest.raises(ValidationError, match="frozen"):
        config.mel = MelConfig()  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        config.mel.n_mels = 64  # type: ignore[misc]
    assert hash(config.mel) == hash(MelConfig())


def test_derived_values() -> None:
    config = Config()
    assert config.mel.frame_rate_hz == 80
    assert config.mel.lead_samples == 0
    assert MelConfig(padding="center").lead_samples == 100
    assert config.signal.n_classes == 256
    assert SignalConfig(bits=10).n_classes == 1024
    assert (config.lag_min_samples, config.lag_max_samples) == (32, 320)
    assert config.run_in_samples == 800
    lj = load_config("ljspeech-22k")
    assert (lj.lag_min_samples, lj.lag_max_samples) == (44, 441)
    assert lj.run_in_samples == 1280  # 1102.5 samples in whole hops of 256


def test_the_run_in_holds_the_longest_lag() -> None:
    config = Config(train=TrainConfig(run_in_s=0.0))
    assert config.run_in_samples == 400  # two hops for a lag of 320


def test_a_pitch_range_too_narrow_to_choose_in() -> None:
    with pytest.raises(
        ConfigError, match=r"pitch_max_hz \(500\) must be at least 1.5 times pitch_min_hz \(499\)"
    ):
        load_config("tiny", ["signal.pitch_min_hz=499"])


def test_what_an_earlier_version_wrote_is_read(tmp_path: Path) -> None:
    config = load_config("voice-16k")
    stored = config.model_dump()
    for old, new in (("sparsify_every", "prune_every"), ("warm_up_s", "run_in_s")):
        stored["train"][old] = stored["train"].pop(new)
    assert config_from_dict(stored, "voice") == config
    (tmp_path / "config.toml").write_text(to_toml(config).replace("prune_", "sparsify_"))
    assert load_config(tmp_path / "config.toml") == config
    with pytest.raises(ConfigError, match="unknown key 'warm_up_s'"):
        load_config("tiny", ["train.warm_up_s=0.1"])


# Bounds


def numbers() -> list[tuple[str, str]]:
    """Table and key of every number, those of a stage as of `train`."""
    return [
        (table, key)
        for table, field in Config.model_fields.items()
        for key, inner in field.annotation.model_fields.items()  # type: ignore[union-attr]
        if inner.annotation in (int, float)
    ]


@pytest.mark.parametrize(("table", "key"), numbers())
def test_every_number_has_bounds(table: str, key: str) -> None:
    large = () if key == "seed" else ("1" + 17 * "0",)
    for number in (*large, "1e30", "-1e30", "inf", "nan"):
        with pytest.raises(ConfigError, match=rf"\[{table}\] {key}|{table}\.{key}") as caught:
            load_config("tiny", [f"{table}.{key}={number}"])
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        (
            "model.gru_size=100000",
            "less than or equal to 8192, got 100000; a matrix of that size takes 37.3 GiB",
        ),
        ("model.readout_size=8193", "less than or equal to 8192"),
        ("train.seed=-1", "greater than or equal to 0"),
        (f"train.seed={10**18}", r"less than 10+, got 10+$"),
        (f"train.steps={10**20}", r"less than or equal to 1000000000, got 10+$"),
        (
            "model.recurrent_density=[1, 1]",
            r"recurrent_density: should be a list of 3 numbers, got \[1, 1\]$",
        ),
        ("model.recurrent_density=[]", r"recurrent_density: should be a list of 3 numbers, got \[\]$"),
        ("model.recurrent_density=[1, 1, 1, 1]", "recurrent_density: should be a list of 3 numbers, got"),
        ("train.augment_gain_db=[1]", r"augment_gain_db: should be a list of 2 numbers, got \[1\]$"),
        ("signal.pitch_min_hz=0.001", "greater than or equal to 10"),
        ("mel.hop_samples=2", r"must be at least window_samples .800. / 64"),
        ("mel.f_min_hz=7999.999", "must be at least 62.5 Hz, 4 of the transform's bins"),
        ("mel.f_max_hz=50.0", "must be at least 62.5 Hz"),
        ("prep.min_duration_s=1e6", "less than or equal to 3600"),
        (
            "train.stages=[{from_step=1, batch_size=1, crop_samples=100000000}]",
            "less than or equal to 10000000",
        ),
    ],
)
def test_what_is_past_a_bound(setting: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_config("tiny", [setting])
