"""A voice's weights, rearranged for generation: embeddings times W_ih become one table row for each code.

Shapes: see model.py; G is the number of the cell's gates (GRU 3, LSTM 4, RNN 1).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gru_audio.arrays import FloatArray
from gru_audio.config import GATES, Config
from gru_audio.errors import CheckpointError, ConfigError
from gru_audio.native.reproducible import product
from gru_audio.voice.tensor_file import Array
from gru_audio.voice.voice import Voice


@dataclass(frozen=True)
class FoldedNetwork:
    """The sample network as the engines run it; all float32.

    Attributes:
        config: the voice's.
        step_tables: (n_step_tables, Q, G H), what each code adds to the gates.
        gate_conditioning: (G H, C), conditioning to gates.
        gate_bias: (G H,), every bias that adds to the gates outside the recurrent product.
        recurrent: (G H, H).
        recurrent_bias: (G H,), added to the recurrent product; zero but for the GRU's new gate, where the
            reset gate multiplies it.
        readout_hidden: (S R, H), and its bias (S R,).
        readout_hidden_bias: (S R,).
        readout_conditioning: (R, C).
        readout_tables: (n_readout_tables, Q, R).
        output: (Q - 1 or Q, R), and its bias.
        output_bias: (Q - 1 or Q,).
    """

    config: Config
    step_tables: FloatArray
    gate_conditioning: FloatArray
    gate_bias: FloatArray
    recurrent: FloatArray
    recurrent_bias: FloatArray
    readout_hidden: FloatArray
    readout_hidden_bias: FloatArray
    readout_conditioning: FloatArray
    readout_tables: FloatArray
    output: FloatArray
    output_bias: FloatArray


def fold(voice: Voice) -> FoldedNetwork:
    """Rearrange a voice's sample network.

    Raises:
        CheckpointError: a tensor is missing or has another shape than the config says.
    """
    config, model = voice.config, voice.config.model
    size, width = model.gru_size, GATES[model.cell] * model.gru_size
    take = TensorReader(voice.tensors, "sample_network.")
    input_weight = take("cell.weight_ih_l0", width, model.conditioning_size)
    input_bias, hidden_bias = take("cell.bias_ih_l0", width), take("cell.bias_hh_l0", width)
    inside = np.zeros(width, bool)  # biases that must stay with the recurrent product
    inside[2 * size :] = model.cell == "gru"
    n_step_tables, n_readout_tables = config.table_counts
    embedding = take("step_embedding.weight", n_step_tables, config.signal.n_classes, model.conditioning_size)
    rows = product(embedding.reshape(-1, model.conditioning_size), input_weight)  # one, not one a table
    return FoldedNetwork(
        config=config,
        step_tables=rows.reshape(*embedding.shape[:2], width),
        gate_conditioning=input_weight,
        gate_bias=input_bias + np.where(inside, np.float32(0), hidden_bias),
        recurrent=take("cell.weight_hh_l0", width, size),
        recurrent_bias=np.where(inside, hidden_bias, np.float32(0)),
        readout_hidden=take("readout_hidden.weight", model.samples_per_step * model.readout_size, size),
        readout_hidden_bias=take("readout_hidden.bias", model.samples_per_step * model.readout_size),
        readout_conditioning=take("readout_conditioning.weight", model.readout_size, model.conditioning_size),
        readout_tables=take(
            "readout_embedding.weight", n_readout_tables, config.signal.n_classes, model.readout_size
        ),
        output=take("output.weight", config.n_outputs, model.readout_size),
        output_bias=take("output.bias", config.n_outputs),
    )


def can_compile(config: Config) -> bool:
    """Whether the compiled engines cover a voice: a GRU with a tree output. The torch engine covers all."""
    return config.model.cell == "gru" and config.model.output == "tree"


def require_compilable(runner: str, network: FoldedNetwork, mend: str = "use the engine torch") -> None:
    """Check that what runs compiled loops covers a network; see `can_compile`.

    Raises:
        ConfigError: it does not; `runner` begins the message, and `mend` ends it.
    """
    if not can_compile(network.config):
        model = network.config.model
        raise ConfigError(
            f"{runner} runs a gru with a tree, this voice is a {model.cell} with a {model.output}; {mend}"
        )


class TensorReader:
    """Takes named tensors out of a voice and checks their shapes."""

    def __init__(self, tensors: Mapping[str, Array], prefix: str) -> None:
        """Read those whose names begin with `prefix`."""
        self._tensors, self._prefix = tensors, prefix

    def __call__(self, name: str, *shape: int) -> FloatArray:
        """The tensor of a name, as float32.

        Raises:
            CheckpointError: it is missing or has another shape.
        """
        full_name = self._prefix + name
        tensor = self._tensors.get(full_name)
        if tensor is None:
            raise CheckpointError(
                f"lacks the tensor {full_name} that its config asks for; export the voice again"
            )
        if tensor.shape != shape:
            raise CheckpointError(
                f"its tensor {full_name} has shape {tensor.shape}, its config asks for {shape}; export the voice again"
            )
        if not np.isfinite(tensor).all():
            raise CheckpointError(
                f"its tensor {full_name} has NaN or infinite values; train again from an earlier checkpoint"
            )
        return np.ascontiguousarray(tensor, np.float32)
