"""What is timed: networks of the presets' sizes with random weights. Speed hardly depends on the weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from gru_audio.config import Config, ModelConfig, load_config, preset_names
from gru_audio.errors import ConfigError
from gru_audio.synthesis.engines import ENGINES
from gru_audio.voice.voice import Voice

_DENSE = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Case:
    """A network to time.

    Attributes:
        name: as `--case` takes it.
        config: its sizes and densities.
        trains: it is meant to be trained as it stands, so that its training is worth timing.
    """

    name: str
    config: Config
    trains: bool


def known_cases() -> dict[str, Case]:
    """The presets, each pruned one's dense twin, and networks of LPCNet's size, by name."""
    cases = []
    for name in preset_names():
        config = load_config(name)
        cases.append(Case(name, config, True))
        if config.model.is_pruned:
            dense = config.model.model_copy(update={"recurrent_density": _DENSE, "readout_density": 1.0})
            cases.append(Case(f"{name}-dense", config.model_copy(update={"model": dense}), False))
    cases += [Case("lpcnet-size", _lpcnet_size(1), False), Case("lpcnet-size-s2", _lpcnet_size(2), False)]
    return {case.name: case for case in cases}


def find_cases(names: Sequence[str]) -> list[Case]:
    """The cases of these names, or of config files; all known ones where none is named.

    Raises:
        ConfigError: neither a case nor a config file, or a config that is not valid.
    """
    known = known_cases()
    return [_find(name, known) for name in dict.fromkeys(names)] if names else list(known.values())


def find_engines(names: Sequence[str]) -> list[str]:
    """The engines of these names; all where none is named.

    Raises:
        ConfigError: no such engine.
    """
    for name in names:
        if name not in ENGINES:
            raise ConfigError(f"engine '{name}' does not exist; choose one of {', '.join(ENGINES)}")
    return list(dict.fromkeys(names)) or list(ENGINES)


def random_voice(config: Config) -> Voice:
    """A voice with random weights, pruned to the config's densities; the same at every call."""
    import torch

    from gru_audio.network.blocks import pruned
    from gru_audio.network.model import Network

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tensors = {name: tensor.numpy() for name, tensor in Network(config).state_dict().items()}
    return Voice(config, pruned(config.model, tensors))


def _find(name: str, known: Mapping[str, Case]) -> Case:
    if name in known:
        return known[name]
    if not name.endswith(".toml"):
        raise ConfigError(f"case '{name}' does not exist; choose one of {', '.join(known)}, or a .toml file")
    return Case(name, load_config(name), True)


def _lpcnet_size(samples_per_step: Literal[1, 2]) -> Config:
    """The sizes of LPCNet, whose own code is not timed here.

    Its first GRU has 384 units at these densities. In place of its second, of 16 units, stands the readout: 48 x 384
    is the product that the second one's three gates compute from the first one's state.
    Source: Valin & Skoglund, LPCNet (2019), section 3.
    """
    return Config(
        model=ModelConfig(
            gru_size=384,
            readout_size=48,
            conditioning_size=128,
            samples_per_step=samples_per_step,
            recurrent_density=(0.05, 0.05, 0.2),
        )
    )
