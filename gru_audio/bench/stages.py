"""The stages of the int8 sample loop, each repeated by itself: the time that it takes where nothing hides it.

The loop itself overlaps them: it computes the next step's recurrent products while it draws; see
native/bench/int8_stages.c. Shapes: see model.py and native/int8/int8.h.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt

from gru_audio.arrays import FloatArray
from gru_audio.native import library
from gru_audio.native.library import Floats, Int, Int64s
from gru_audio.signal.mulaw import encode
from gru_audio.synthesis.folding import FoldedNetwork
from gru_audio.synthesis.int8.engine import Int8Room, make_room
from gru_audio.synthesis.int8.packing import STATE_ONE, Int8Network, pack

STAGES = ("products", "gates, readouts", "readout tables", "draw")
"""In the order of the loop, and of C's `enum int8_stage`."""

_RMS_OF_CODES = 1 / 8  # of what they stand for: the excitation is divided by 8 gains, the signal by 6
_MOST_TABLES = 10


class Int8StageInputs(library.Struct):
    """C's `struct gru_int8_stage_inputs`; see native/bench/int8_stages.c."""

    _fields_ = (
        ("n_steps", Int),
        ("gate_inputs", Floats),
        ("readout_inputs", Floats),
        ("codes", Int64s),
        ("uniforms", Floats),
        ("drawn", Int64s),
    )


_start_stages = library.function("gru_int8_start_stages", [Int8Network, Int8Room, Int8StageInputs])
_run_stage = library.function("gru_int8_stage", [Int8Network, Int8Room, Int8StageInputs, Int])


class Int8Stages:
    """The stages over one network's packed layers, on made-up codes, inputs and uniform numbers.

    Attributes:
        network: packed.
        room: what the stages work on, and what they leave there.
        hidden: (H,) the state that steps begin with.
        codes: (T, 10) for each table of a step, or of a readout.
        uniforms: (T,) that codes are drawn with.
        drawn: (T,) the codes that the last run drew.
    """

    def __init__(self, network: FoldedNetwork, n_samples: int) -> None:
        """Pack the layers, make up the inputs and run each stage once.

        Args:
            network: a GRU with a tree.
            n_samples: how many each stage goes on for, rounded up to whole steps.
        """
        rng, config, model = np.random.default_rng(0), network.config, network.config.model
        n_steps = -(-n_samples // model.samples_per_step)
        n_samples = n_steps * model.samples_per_step
        self.network = pack(network)
        self.room = make_room(self.network)
        amplitudes = rng.normal(0.0, _RMS_OF_CODES, (n_samples, _MOST_TABLES))
        self.codes: npt.NDArray[np.int64] = encode(amplitudes, config.signal.n_classes).astype(np.int64)
        self.hidden = np.tanh(_noise(rng, model.gru_size))
        self.uniforms = rng.random(n_samples, np.float32)
        self.drawn = np.zeros(n_samples, np.int64)
        self._inputs = Int8StageInputs(
            n_steps=n_steps,
            gate_inputs=_noise(rng, 3 * model.gru_size),
            readout_inputs=_noise(rng, model.readout_size),
            codes=self.codes,
            uniforms=self.uniforms,
            drawn=self.drawn,
        )
        self._start_state()
        _start_stages(self.network, self.room, self._inputs)
        for run in self.runs().values():
            run()

    def runs(self) -> dict[str, Callable[[], int]]:
        """Each stage by its name, in the order of the loop; a run gives for how many samples it was done."""
        return {name: partial(self._run, stage) for stage, name in enumerate(STAGES)}

    def _run(self, stage: int) -> int:
        self._start_state()
        _run_stage(self.network, self.room, self._inputs, stage)
        return self.drawn.size

    def _start_state(self) -> None:
        self.room.held["hidden"][: self.hidden.size] = np.rint(STATE_ONE * self.hidden)


def _noise(rng: np.random.Generator, n: int) -> FloatArray:
    return rng.standard_normal(n, np.float32)
