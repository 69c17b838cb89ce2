"""Configs as files and as assignments: presets and TOML in, TOML out, with errors that name the key.

What a user misspelt is told with the nearest that there is.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from gru_audio.config.mel import MEL_PRESETS, MelConfig
from gru_audio.config.tables import Config
from gru_audio.config.training import Stage
from gru_audio.documents import DocumentError, parse_toml, read_text
from gru_audio.errors import ConfigError, with_what_was_got
from gru_audio.files import why_no_file

_LARGEST_BYTES = 1 << 20  # of a config file
_FILE_OF_RUN = "config.toml"  # as voice/run_folder.py names it; that room needs this one

ALL_TABLES = ("mel", "signal", "model", "prep", "train")
PREP_TABLES = ("mel", "signal", "prep")
"""What prep reads of a config: what a network or its training asks for is no matter there."""


def load_config(
    source: str | Path,
    overrides: Sequence[str] = (),
    tables: Sequence[str] = ALL_TABLES,
    base: Config | None = None,
) -> Config:
    """Read a config and apply overrides.

    Args:
        source: path of a TOML file or of a run's folder, or the name of a preset (see `preset_names`).
        overrides: assignments such as `"model.gru_size=256"`; the value is written as in TOML, and a
            bare word is taken as a string.
        tables: those that are used. Each of the others is checked by itself, and is then as if it were not there.
        base: has what the file does not say; None: the defaults.

    Raises:
        ConfigError: no such file or preset, not TOML, an unknown key or a bad value.
    """
    path = _file_of(source)
    if path is None:
        raise ConfigError(
            f"config '{source}' is neither a file, a run nor a preset; the presets are {', '.join(preset_names())}"
        )
    given = _read(path)
    if base is not None:
        given = _laid_over(base.model_dump(), given)
    for override in overrides:
        _apply(given, override)
    origin = f"{path.name} with --set" if overrides else path.name
    unused = [name for name in ALL_TABLES if name in given and name not in tables]
    for name in unused:
        _validate({name: given.pop(name)}, origin)
    return _validate(given, origin)


def config_from_dict(tables: Mapping[str, Any], origin: str) -> Config:
    """The config stored in a voice, a checkpoint or a dataset; `origin` names the file in errors.

    Raises:
        ConfigError: the tables are not a config of this version.
    """
    return _validate(_upgraded(tables), origin)


def with_overrides(config: Config, overrides: Sequence[str]) -> Config:
    """A config with assignments applied, as `load_config` takes them.

    Raises:
        ConfigError: an unknown key or a bad value.
    """
    tables = config.model_dump()
    for override in overrides:
        _apply(tables, override)
    return _validate(tables, "--set")


def load_mel_config(source: str | Path, base: MelConfig | None = None) -> MelConfig:
    """A mel contract from one of `MEL_PRESETS`, or from the `[mel]` table of a config file or preset.

    Args:
        source: a name, a path, or what differs from `base`: `"log=log10,scale=2"`.
        base: by default the default contract.

    Raises:
        ConfigError: as `load_config`.
    """
    if "=" in str(source) and _file_of(source) is None:
        tables = {"mel": (base or MelConfig()).model_dump()}
        _apply_to_mel(tables["mel"], str(source))
        return _validate(tables, f"--mel {source}").mel
    if str(source) in MEL_PRESETS:
        return MEL_PRESETS[str(source)]
    path = _file_of(source)
    if path is None:
        raise ConfigError(
            f"mel contract '{source}' is not known; choose one of {', '.join(MEL_PRESETS)}, or give a TOML file, "
            "a run, or what differs, as in log=log10"
        )
    given = _read(path)
    # What stands beside [mel] is of no use here, as long as it is a config's.
    return _validate({name: given[name] for name in given if name not in ALL_TABLES[1:]}, path.name).mel


def to_toml(config: Config) -> str:
    """The whole config as TOML, defaults included; `load_config` reads it back to an equal config."""
    import tomli_w  # late: speaking writes none

    return tomli_w.dumps(config.model_dump())


def preset_names() -> list[str]:
    """Names of the configs that come with the package."""
    return sorted(path.stem for path in _preset_folder().glob("*.toml"))


def which_preset_has(mel: MelConfig) -> str:
    """What an error adds to "the contract that is wanted": the presets with this `[mel]`, or nothing."""
    names = [name for name in preset_names() if has_mel(name, mel)]
    return f", which --config {' or '.join(names)} has" if names else ""


def has_mel(source: str | Path, mel: MelConfig) -> bool:
    """Whether a config is one, with this `[mel]`; a file in this folder may have a preset's name."""
    try:
        return load_config(source).mel == mel
    except ConfigError:
        return False


def _preset_folder() -> Path:
    package = Path(__file__).parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"  # an editable install


def _read(path: Path) -> dict[str, Any]:
    try:
        tables = parse_toml(read_text(path, _LARGEST_BYTES))
    except (OSError, DocumentError) as error:
        raise ConfigError(
            f"{path}: not a readable TOML file: {error}; mend it, or name a preset: {', '.join(preset_names())}"
        ) from error
    return _upgraded(tables)


def _laid_over(base: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Tables with `base`'s values where `given` has none."""
    both = {**base, **given}
    for name, table in base.items():
        if isinstance(table, dict) and isinstance(both[name], dict):
            both[name] = {**table, **both[name]}
    return both


def _file_of(source: str | Path) -> Path | None:
    """Where a config lies: a file, a preset's or a run's; None where it is none of these."""
    preset = [_preset_folder() / f"{source}.toml"] if str(source) in preset_names() else []
    paths = Path(source), *preset, Path(source) / _FILE_OF_RUN
    return next((path for path in paths if why_no_file(path) is None), None)


def _apply(tables: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    keys = name.strip().split(".")
    if not equals or len(keys) != 2 or not all(keys):
        raise ConfigError(f"--set '{override}': write it as table.key=value, for example model.gru_size=256")
    table, key = keys
    tables.setdefault(table, {})
    if not isinstance(tables[table], dict):
        raise ConfigError(f"--set '{override}': '{table}' is not a table")
    tables[table][key] = _value(text)


def _apply_to_mel(table: dict[str, Any], source: str) -> None:
    """Apply what `--mel` says of a contract: assignments with commas between them, each key once."""
    given = [assignment.partition("=") for assignment in source.split(",")]
    keys = [key.strip() for key, _, _ in given]
    if not all(equals and key for key, (_, equals, _) in zip(keys, given, strict=True)):
        raise ConfigError(f"--mel '{source}': write it as key=value,key=value, for example log=db,scale=0.01")
    twice = [key for key in keys if keys.count(key) > 1]
    if twice:
        raise ConfigError(f"--mel '{source}': gives {twice[0]} twice; give it once")
    table.update({key: _value(text) for key, (_, _, text) in zip(keys, given, strict=True)})


def _value(text: str) -> Any:
    """A value as it is written in TOML; a bare word is a string."""
    try:
        value = parse_toml(f"value = {text.strip()}")["value"]
    except DocumentError:
        value = text.strip()  # a bare word, for example model.cell=lstm
        if re.fullmatch(r"[+-]?[0-9]{1,40}", value):  # past TOML's bound: the key's own is told
            value = int(value)
    return value


def _upgraded(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Tables whose keys are those of this version, whichever version wrote them."""
    return {
        table: {_RENAMED.get((table, key), key): value for key, value in keys.items()}
        if isinstance(keys, Mapping)
        else keys
        for table, keys in tables.items()
    }


_RENAMED = {
    ("train", "sparsify_start_step"): "prune_start_step",
    ("train", "sparsify_end_step"): "prune_end_step",
    ("train", "sparsify_every"): "prune_every",
    ("train", "warm_up_s"): "run_in_s",
}
"""Keys as runs, voices and checkpoints hold them that were written before 0.2."""


def _validate(tables: Mapping[str, Any], origin: str) -> Config:
    try:
        return Config.model_validate(tables)
    except ValidationError as error:
        told = dict.fromkeys(_explain(item) for item in error.errors())  # each once
        raise ConfigError(f"{origin}: " + "; ".join(told)) from error


def _explain(item: Any) -> str:
    """One of pydantic's error records as `[table] key ...`."""
    location = [str(part) for part in item["loc"]]
    table = location[0] if len(location) > 1 or (location and location[0] in Config.model_fields) else None
    where = f"[{table}] " if table else ""
    key = location[1] if len(location) > 1 else (location[0] if location and table is None else "")
    if item["type"] == "extra_forbidden":
        known = list(Config.model_fields)
        if table in Config.model_fields:
            known = list(_settings_of(str(table)))
        if len(location) > 2:  # in one of train.stages
            key, known = location[-1], list(Stage.model_fields)
        close = difflib.get_close_matches(key, known, n=1) or [
            name for name in known if key in name.split("_")
        ]
        hint = f"did you mean '{close[0]}'?" if close else f"known are {', '.join(known)}"
        return f"{where}unknown {'key' if table else 'table'} '{key}'; {hint}"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "model_type":
        message = "is no table"
    if item["type"] == "tuple_type":
        message = "should be a list in brackets"
    is_length = item["type"] == "too_long" or (item["type"] == "missing" and location[-1].isdigit())
    if is_length and (n := _n_numbers(str(table), key)):
        message = f"should be a list of {n} numbers"
    if not key:
        return f"{where}{message}"
    nested = location[2:] if len(location) > 3 else []  # in one of train.stages
    within = "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in nested)
    told = with_what_was_got(f"{message[0].lower()}{message[1:]}", item["input"])
    return f"{where}{key}{within}: {told}{_memory_of(key, item)}"


def _settings_of(table: str) -> Mapping[str, FieldInfo]:
    """A table's settings by name."""
    fields: Mapping[str, FieldInfo] = getattr(Config(), table).__class__.model_fields
    return fields


def _n_numbers(table: str, key: str) -> int:
    """How many numbers a setting has that is a list of them; 0 of any other."""
    fields = _settings_of(table)
    kinds = get_args(fields[key].annotation) if key in fields else ()
    return len(kinds) if Ellipsis not in kinds and get_origin(fields[key].annotation) is tuple else 0


def _memory_of(key: str, item: Any) -> str:
    """What a layer that is too large would take, as a clause."""
    if item["type"] != "less_than_equal" or not key.endswith("_size") or key == "batch_size":
        return ""
    gib = 4 * item["input"] ** 2 / 2**30
    return f"; a matrix of that size takes {gib:,.1f} GiB, and training five of it"
