"""Begin a voice of four samples a step with the weights of one of two.

python recipes/debian-voices/four_samples.py VOICE START

The recurrent layer grows to `GRU_SIZE`, its new units unheard at first; half of the readout's units stay, those that
speak loudest. What the third and fourth sample need, two samples do not know: their readouts are copies of the first
two, and their tables begin at random, softly. So the start is no voice yet, but it is within a few hundred steps.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gru_audio.errors import GruAudioError
from gru_audio.network.model import Network
from gru_audio.training.growing import grown
from gru_audio.voice.voice import Voice, load_voice, save_voice

GRU_SIZE, READOUT_SIZE, DENSITY = 512, 64, (0.08, 0.08, 0.16)
"""As in four_samples.toml, whose run prunes what begins dense here."""
_SOFT = 0.3  # of a random table, beside those that were trained
_LOUDER = 1.3  # what is left of the readout makes up for what is gone, about


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("voice", type=Path)
    parser.add_argument("start", type=Path)
    arguments = parser.parse_args()
    try:
        save_voice(arguments.start, with_four_samples(load_voice(arguments.voice)))
    except GruAudioError as error:
        sys.exit(f"error: {error}")


def with_four_samples(
    voice: Voice,
    gru_size: int = GRU_SIZE,
    readout_size: int = READOUT_SIZE,
    density: tuple[float, float, float] = DENSITY,
) -> Voice:
    """The start of a voice of four samples a step.

    Args:
        voice: of two samples a step, with linear prediction.
        gru_size: H, at least the voice's.
        readout_size: R, at most the voice's.
        density: what is left of each gate's blocks in the end.

    Raises:
        GruAudioError: the voice has another number of samples a step.
    """
    config, old = (
        voice.config,
        {name: torch.from_numpy(array.copy()) for name, array in voice.tensors.items()},
    )
    if config.model.samples_per_step != 2 or not config.signal.lpc_order:
        raise GruAudioError(
            f"the voice draws {config.model.samples_per_step} samples a step; give one that draws 2, with prediction"
        )
    sizes = {"gru_size": gru_size, "readout_size": readout_size, "samples_per_step": 4}
    model = config.model.model_copy(update={**sizes, "recurrent_density": density})
    config = config.model_copy(update={"model": model})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        own = Network(config).state_dict()
    tensors = _converted(old, own, voice.config.model.gru_size, readout_size)
    metadata = {name: told for name, told in voice.metadata.items() if name != "sampling"}
    arrays = {name: np.asarray(tensor.numpy(), np.float32) for name, tensor in tensors.items()}
    return Voice(config, arrays, metadata)


def _converted(old: dict[str, Tensor], own: dict[str, Tensor], old_size: int, size: int) -> dict[str, Tensor]:
    """The tensors of the larger network; its own, at random, where the voice has nothing to say."""
    part = "sample_network."
    hidden, output = old[part + "readout_hidden.weight"], old[part + "output.weight"]
    by_sample = hidden.view(2, output.shape[1], -1)  # (2, R, H)
    loudness = output.norm(dim=0) * by_sample.norm(dim=(0, 2))
    kept = loudness.argsort(descending=True)[:size].sort().values

    def of_all_four(of_two: Tensor) -> Tensor:  # (2, R, …) -> (4 R, …): samples 3 and 4 as 1 and 2
        return torch.cat([of_two[:, kept]] * 2).flatten(0, 1)

    step, readout = old[part + "step_embedding.weight"], old[part + "readout_embedding.weight"][:, :, kept]
    new_step = own[part + "step_embedding.weight"] * _SOFT
    new_readout = own[part + "readout_embedding.weight"] * _SOFT
    special = {
        # e[t-1] to e[t-4], s[t-1], the prediction, the long-term codes of four samples
        "step_embedding.weight": torch.cat([step[:2], new_step[2:4], step[2:6], new_step[8:10]]),
        # e[t-1] to e[t-4], s[t-1], the prediction, the long-term code
        "readout_embedding.weight": torch.cat([readout[:2], new_readout[2:4], readout[2:5]]),
        "readout_hidden.weight": grown(
            part + "readout_hidden.weight",
            of_all_four(by_sample) * _LOUDER,
            own[part + "readout_hidden.weight"],
            old_size,
        ),
        "readout_hidden.bias": of_all_four(old[part + "readout_hidden.bias"].view(2, -1)),
        "readout_conditioning.weight": old[part + "readout_conditioning.weight"][kept],
        "output.weight": output[:, kept] * _LOUDER,
    }
    converted = {
        name: grown(name, tensor, own[name], old_size) for name, tensor in old.items() if "cell" in name
    }
    return {**old, **converted, **{part + name: tensor for name, tensor in special.items()}}


if __name__ == "__main__":
    main()
