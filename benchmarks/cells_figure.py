"""The figure of compare_cells.py."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from cells_measures import TIME_CONSTANTS_SAMPLES
from cells_runs import Run
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gru_audio.config import Config

# Okabe & Ito's colours, which the colour-blind can tell apart; dashes say the rest again.
_COLOURS = {"gru": "#0072B2", "lstm": "#D55E00", "rnn": "#009E73"}
_HELD_COLOURS = {"reset": "#56B4E9", "update": "#CC79A7"}
_SMALLEST_GRADIENT, _SMALLEST_BITS = 1e-8, 1e-5  # that are shown
_SHORTEST_MS, _LONGEST_MS = 0.05, 50


def draw(runs: Sequence[Run], config: Config, path: Path, gradient_bound: float, memory_bound: float) -> None:
    """Draw learning, gradients, memory and gates of all runs.

    Args:
        runs: of `compare_cells.make_runs`.
        config: whose rate and samples a step they have.
        path: of the picture; its suffix says of what kind.
        gradient_bound: share of the gradient that is marked.
        memory_bound: in bits, marked too.
    """
    stride, rate_khz = config.model.samples_per_step, config.mel.sample_rate_hz / 1000
    figure = Figure(figsize=(11, 8), layout="constrained")
    learning, gradient, memory, gates = figure.subplots(2, 2).flat
    for run in runs:
        look = _look(run)
        back_ms = np.arange(len(run.gradient)) * stride / rate_khz
        learning.plot(run.curve.cpu_s, run.curve.bits, **look)
        gradient.plot(back_ms, run.gradient, **look)
        later_ms = np.arange(1, len(run.memory) + 1) / rate_khz
        memory.plot(later_ms, run.memory, **look)
        if not run.variant.held_gate and run.variant.size == config.model.gru_size:
            gradient.plot(back_ms, run.gradient_before, color=look["color"], linestyle=":", linewidth=1)
            _draw_gate(gates, run, rate_khz)
    gradient.plot([], [], color="grey", linestyle=":", label="before training")
    _label_axes(learning, gradient, memory, gates, runs)
    gradient.axhline(gradient_bound, color="grey", linewidth=0.8)
    memory.axhline(memory_bound, color="grey", linewidth=0.8)
    # Text stays text, and the same figures give the same file.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "cells"}):
        figure.savefig(path, dpi=120, metadata={"Date": None} if path.suffix == ".svg" else None)


def _look(run: Run) -> dict[str, Any]:
    variant = run.variant
    if variant.held_gate:
        colour, style, label = _HELD_COLOURS[variant.held_gate], "-.", f"GRU without {variant.held_gate} gate"
    else:
        matched = variant.name.endswith("-matched")
        colour, style = _COLOURS[variant.cell], "--" if matched else "-"
        label = f"{variant.cell.upper()}, H = {variant.size}"
    return {"color": colour, "linestyle": style, "linewidth": 1.5, "label": label}


def _draw_gate(axes: Axes, run: Run, rate_khz: float) -> None:
    """The histograms of the gate that keeps, if the cell has one."""
    edges_ms = np.array(TIME_CONSTANTS_SAMPLES) / rate_khz
    gate = "z" if run.variant.cell == "gru" else "f"
    for (name, shares), style in zip(run.constants.items(), ("-", "--"), strict=False):
        label = f"{run.variant.cell.upper()}'s {gate}, {name}"
        colour = _COLOURS[run.variant.cell]
        axes.stairs(
            100 * np.array(shares), edges_ms, color=colour, linestyle=style, linewidth=1.5, label=label
        )


def _label_axes(learning: Axes, gradient: Axes, memory: Axes, gates: Axes, runs: Sequence[Run]) -> None:
    learning.set(title="Learning", xlabel="CPU time in training steps (s)", ylabel="bits a held-out sample")
    best = min(run.curve.bits[-1] for run in runs)
    third = max(run.curve.bits[3] for run in runs)  # what is before is steep, and alike for all
    learning.set_ylim(best - 0.02 * (third - best), third)
    gradient.set(title="Gradient through time", xlabel="before the loss (ms)", xlim=(0, _LONGEST_MS))
    gradient.set(yscale="log", ylim=(_SMALLEST_GRADIENT, 2), ylabel="norm of d loss / d state, 1 at the loss")
    memory.set(
        title="Memory of another's state", xlabel="after the exchange (ms)", xlim=(_SHORTEST_MS, _LONGEST_MS)
    )
    memory.set(xscale="log", yscale="log", ylim=(_SMALLEST_BITS, 2), ylabel="KL divergence (bits a sample)")
    gates.set(
        title="What the keeping gates hold on to",
        xlabel="time constant (ms; first bin: and less)",
        xscale="log",
    )
    gates.set(ylabel="share of units and steps (%)")
    for axes in (learning, gradient, memory, gates):
        axes.grid(True, linewidth=0.3)
        axes.legend(fontsize=8)
