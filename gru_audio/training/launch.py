"""What torchrun tells each process that it starts; without torch, so that a command can ask before its import."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from gru_audio.errors import TrainingError


class ProcessLostError(TrainingError):
    """Another process of the run failed."""


@dataclass(frozen=True)
class Launch:
    """One process among those of a run; the defaults are those of a process that torchrun did not start.

    Attributes:
        rank: its number, from 0. Process 0 leads: it alone writes files and speaks.
        n_processes: how many there are.
        local_rank: its number among those on this machine.
        n_local: how many there are on this machine.
        n_restarts: how often torchrun had to start them all again.
        job: the same in every restart on all machines, and in no other call of torchrun; empty without torchrun.
    """

    rank: int = 0
    n_processes: int = 1
    local_rank: int = 0
    n_local: int = 1
    n_restarts: int = 0
    job: str = ""

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Launch":
        """From the variables that torchrun sets.

        Source: https://docs.pytorch.org/docs/stable/elastic/run.html, environment variables.
        """
        if not {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"} <= environment.keys():
            return cls()
        return cls(
            int(environment["RANK"]),
            int(environment["WORLD_SIZE"]),
            int(environment["LOCAL_RANK"]),
            int(environment["LOCAL_WORLD_SIZE"]),
            int(environment.get("TORCHELASTIC_RESTART_COUNT", "0")),
            _job(environment.get("TORCHELASTIC_RUN_ID", "")),
        )

    @property
    def leads(self) -> bool:
        """Whether this is process 0."""
        return self.rank == 0

    def device_name(self, name: str, n_gpus: int) -> str:
        """The device that this process computes on, where `name` was asked for: each has a GPU of its own.

        Raises:
            TrainingError: this machine has fewer of them than processes.
        """
        if name != "cuda" or self.n_processes == 1:
            return name
        if 0 < n_gpus < self.n_local:
            raise TrainingError(
                f"{self.n_local} processes on this machine, each of which needs a GPU, and {n_gpus} can be used; start "
                f"torchrun with --nproc-per-node={n_gpus}"
            )
        return f"cuda:{self.local_rank}"


def _job(run_id: str) -> str:
    """The call of torchrun: its --rdzv-id, or where that was not given, its process, as it is but on this machine."""
    return run_id if run_id not in ("", "none") else f"{run_id} {os.getppid()}"
