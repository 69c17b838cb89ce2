"""GRU, LSTM and plain RNN on the same audio, and a GRU with one of its gates held still:

    python benchmarks/compare_cells.py DATASET [--minutes 3] [--out DIR] [--config voice-16k] [--set KEY=VALUE]...

Each is trained for the same time on the same batches in the same order, at the GRU's hidden size and at its
number of recurrent parameters. Time is this process's own CPU time within training steps, on one thread, so
that a shared core counts alike for all. For the same reason all go step by step through torch's own code:
the GRU's scan (gru_audio/network/cpu/scan.py) and oneDNN's fused LSTM are off, and timed apart.

Each run's figures are kept in DIR and not made again; `--only NAME` makes one. The table of those that are there
is shown and DIR/cells.svg drawn. What they show is told in docs/cells.md. Needs matplotlib.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cells_figure import draw
from cells_measures import horizon, median_constant
from cells_runs import SETTINGS, Curve, Run, Variant, train_variant, variants

from gru_audio.config import Config, load_config
from gru_audio.data.dataset import Dataset
from gru_audio.errors import ConfigError, GruAudioError, OutputError
from gru_audio.files import atomic_path
from gru_audio.network.cpu.memory import keep_freed_memory

GRADIENT_BOUND = 0.01  # of the gradient at the last step
MEMORY_BOUND_BITS = 0.01


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--minutes", type=float, default=3.0, help="CPU time of each run's training steps")
    parser.add_argument("--out", type=Path, default=Path("cells"))
    parser.add_argument("--config", default="voice-16k")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--only", action="append", metavar="NAME", help="of the runs to make; all if absent")
    given = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    try:
        config = load_config(given.config, [*SETTINGS, *given.set])
        runs = make_runs(Dataset.open(given.dataset), config, given.minutes, given.out, given.only)
        made = [run for run in runs.values() if run is not None]
        missing = [name for name, run in runs.items() if run is None]
        print(table(made, config) + (f"\nStill to be made: {', '.join(missing)}" if missing else ""))
        with atomic_path(given.out / "cells.svg") as temporary:
            draw(made, config, temporary, GRADIENT_BOUND, MEMORY_BOUND_BITS)
    except GruAudioError as error:
        raise SystemExit(f"error: {error}") from error


def make_runs(
    dataset: Dataset, config: Config, minutes: float, out: Path, only: Sequence[str] | None
) -> dict[str, Run | None]:
    """Every run by its name: read from `out`, made and kept there if it is in `only`, or else None.

    Raises:
        ConfigError: `only` names a run that does not exist.
        OutputError: `out` holds runs with other settings, or cannot be written.
    """
    every = {variant.name: variant for variant in variants(config)}
    for name in only or ():
        if name not in every:
            raise ConfigError(f"--only '{name}': no such run; choose one of {', '.join(every)}")
    settings = {"config": config.model_dump(mode="json"), "minutes": minutes, "dataset": dataset.fingerprint}
    runs: dict[str, Run | None] = {}
    for name, variant in every.items():
        path = out / f"{name}.json"
        runs[name] = read_run(path, settings) if path.exists() else None
        if runs[name] is None and (only is None or name in only):
            runs[name] = run = train_variant(dataset, variant, config, minutes)
            print(f"{name}: {run.curve.steps[-1]} steps, {run.curve.bits[-1]:.3f} bits a sample", flush=True)
            with atomic_path(path) as temporary:
                temporary.write_text(json.dumps({"settings": settings, "run": asdict(run)}))
    return runs


def read_run(path: Path, settings: dict[str, Any]) -> Run:
    """A run that was kept.

    Raises:
        OutputError: it was made with other settings.
    """
    kept = json.loads(path.read_text(encoding="utf-8"))
    if kept["settings"] != settings:
        raise OutputError(f"{path}: made with other settings, data or minutes; choose another --out")
    fields = kept["run"]
    return Run(**{**fields, "variant": Variant(**fields["variant"]), "curve": Curve(**fields["curve"])})


def table(runs: Sequence[Run], config: Config) -> str:
    """The runs' figures, in Markdown."""
    rate_khz, stride = config.mel.sample_rate_hz / 1000, config.model.samples_per_step
    n_common = min(run.curve.steps[-1] for run in runs)
    heads = ["run", "H", "recurrent parameters", "all parameters", "step", "step, fused", "steps"]
    heads += ["bits a sample", f"after {n_common:,} steps", "gradient reaches", "memory reaches"]
    heads += ["time constant, voiced", "unvoiced"]
    rows = [heads, ["---"] + ["--:"] * (len(heads) - 1)]
    for run in runs:
        back = horizon(run.gradient, GRADIENT_BOUND)
        constants = [median_constant(shares) / rate_khz for shares in run.constants.values()]
        fused = f"{run.fused_step_ms:.0f} ms" if run.fused_step_ms else "-"
        rows.append(
            [run.variant.name, str(run.variant.size), f"{run.n_recurrent:,}", f"{run.n_parameters:,}"]
            + [f"{run.step_ms:.0f} ms", fused, f"{run.curve.steps[-1]:,}", f"{run.curve.bits[-1]:.3f}"]
            + [f"{np.interp(n_common, run.curve.steps, run.curve.bits):.3f}"]
            + [_reach(None if back is None else back * stride, len(run.gradient) * stride, rate_khz)]
            + [_reach(horizon(run.memory, MEMORY_BOUND_BITS), len(run.memory), rate_khz)]
            + ([f"{constant:.2f} ms" for constant in constants] or ["-", "-"])
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _reach(n_samples: int | None, n_seen: int, rate_khz: float) -> str:
    """Samples and milliseconds."""
    shown = n_seen if n_samples is None else n_samples
    return f"{'over ' if n_samples is None else ''}{shown:,} ({shown / rate_khz:.1f} ms)"


if __name__ == "__main__":
    main()
