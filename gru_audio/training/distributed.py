"""A run's processes under torchrun: one gradient, one stop, and what is said when one of them is gone.

All of them hold the same state. Each computes its share of the batch that one process would have drawn, and
the sum of their gradients is the gradient of the whole batch, so the run does not depend on their number.
"""

import contextlib
import datetime
import time
from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import PrefixStore  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous

from gru_audio.errors import GruAudioError, first_line
from gru_audio.network.torch_private import copy_each
from gru_audio.training.batches.crops import Share
from gru_audio.training.interrupt import STOP_SIGNALS, StopRequest, end_at_once_on_signals
from gru_audio.training.launch import Launch, ProcessLostError
from gru_audio.training.objective import Losses

# A process that ends is noticed at once; this is for one that hangs, and must leave time for a validation.
_PATIENCE = datetime.timedelta(minutes=30)
_HEAD_START_S = 1.0  # of the first process, where all look for one to tell what happened
_FAILURE, _TOLD = "gru_audio/failure", "gru_audio/told"


class Processes:
    """The processes of a run, seen from one of them.

    Attributes:
        launch: which one this is.
        share: its part of every batch.
    """

    def __init__(self, launch: Launch | None = None, store: Any = None) -> None:
        """By default the only one; see `joined`."""
        self.launch, self._store = launch or Launch(), store
        self.share = Share(self.launch.rank, self.launch.n_processes)
        self._asked: Tensor | None = None
        self._memory: Tensor | None = None

    @property
    def leads(self) -> bool:
        """Whether this one writes files and speaks."""
        return self.launch.leads

    @property
    def alone(self) -> bool:
        """Whether it is the only one."""
        return self.launch.n_processes == 1

    def combine(
        self, parameters: Iterable[torch.nn.Parameter], losses: Losses, n_crops: int, stopped: StopRequest
    ) -> Losses:
        """Turn the gradients of each one's share into that of the whole batch; returns the whole batch's losses.

        One sum over all processes, which carries their requests to stop as well. It is the same, bit for bit,
        in all of them.

        Args:
            parameters: with the gradients of this one's mean loss.
            losses: of this one's share; of those given back only `nats` and `pitch` are the whole batch's.
            n_crops: how many crops this one's share has.
            stopped: this one's request to stop.

        Raises:
            ProcessLostError: another one failed; the gradients are then of no use.
        """
        if self.alone:
            return losses
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        one = losses.nats.new_ones(())
        asked = [one * (stopped.signal_number == number) for number in STOP_SIGNALS]
        scalars = torch.stack([losses.nats.detach(), losses.pitch.detach(), one, *asked])
        summed = self._together([*(gradient.flatten() for gradient in gradients), scalars]).mul_(n_crops)
        with self._losing():
            dist.all_reduce(summed)
        n_scalars = len(scalars)
        self._asked = summed[-len(asked) :].clone()
        mean = summed.div_(summed[2 - n_scalars].clone())
        parts = torch.split(mean[:-n_scalars], [gradient.numel() for gradient in gradients])
        shaped = [part.view_as(gradient) for part, gradient in zip(parts, gradients, strict=True)]
        copy_each(gradients, shaped)
        return losses._replace(nats=mean[-n_scalars].clone(), pitch=mean[1 - n_scalars].clone())

    def _together(self, parts: list[Tensor]) -> Tensor:
        """Vectors end to end, in memory that is kept: fresh pages at every step cost more than what is done in them."""
        size = sum(part.numel() for part in parts)
        if self._memory is None or self._memory.numel() != size:
            self._memory = torch.empty(size, dtype=parts[0].dtype, device=parts[0].device)
        return torch.cat(parts, out=self._memory)

    def stop_signal(self, stopped: StopRequest) -> int | None:
        """The signal after which all are to stop at this step, if one has come; reads the device."""
        if self.alone:
            return stopped.signal_number
        if self._asked is None:
            return None
        counts = zip(STOP_SIGNALS, self._asked.tolist(), strict=True)
        return next((number for number, count in counts if count), None)

    def gather(self, value: Any) -> list[Any]:
        """Everyone's value, in the order of ranks; none goes on before all have come this far.

        Raises:
            ProcessLostError: another one failed.
        """
        if self.alone:
            return [value]
        values: list[Any] = [None] * self.launch.n_processes
        with self._losing():
            dist.all_gather_object(values, value)
        return values

    def _speaks(self, *, left_word: bool) -> bool:
        """Whether this one is to tell what happened to another: the first, or one in place of a first that is gone."""
        if not self.leads:
            time.sleep(_HEAD_START_S)
        try:
            is_first_to_ask = self._store.add(_TOLD, 1) == 1
        except RuntimeError:  # whoever kept the store is gone, but told what there is word of
            is_first_to_ask = not left_word
        return bool(self.leads or is_first_to_ask)

    def tell_failure(self, error: BaseException) -> None:
        """Leave word of why this one ends, for the others; the first tells the user itself."""
        if isinstance(error, ProcessLostError):
            return
        if isinstance(error, GruAudioError):
            error.told = not self.leads
        with contextlib.suppress(RuntimeError):
            self._store.set(_FAILURE, f"process {self.launch.rank} failed: {first_line(error)}")
            if self.leads:
                self._store.add(_TOLD, 1)

    @contextlib.contextmanager
    def _losing(self) -> Iterator[None]:
        """Turn what torch raises when another process is gone into what that one left word of."""
        try:
            yield
        except RuntimeError as error:
            word = None
            with contextlib.suppress(RuntimeError):
                if self._store.check([_FAILURE]):
                    word = self._store.get(_FAILURE).decode()
            reason = f"one of the {self.launch.n_processes} processes ended (killed, or out of memory)"
            lost = ProcessLostError(word or reason)
            lost.told = not self._speaks(left_word=word is not None)
            raise lost from error


@contextlib.contextmanager
def joined(launch: Launch, device: torch.device) -> Iterator[Processes]:
    """Join the other processes of the run, over NCCL on GPUs and gloo on CPUs.

    Raises:
        ProcessLostError: the others cannot be reached.
    """
    if launch.n_processes == 1:
        yield Processes(launch)
        return
    try:
        with end_at_once_on_signals():  # torchrun's, where one of the others has failed before it came here
            kept, rank, size = next(iter(rendezvous("env://", timeout=_PATIENCE)))
            # torchrun's store outlives a restart, and with it the addresses and last words of processes that are gone.
            store = PrefixStore(f"restart-{launch.n_restarts}", kept)
            if device.type == "cuda":
                torch.cuda.set_device(device)
            backend = "nccl" if device.type == "cuda" else "gloo"
            dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        reason = first_line(error)
        raise ProcessLostError(
            f"process {launch.rank} cannot reach the others: {reason}; start again with torchrun"
        ) from error
    processes = Processes(launch, store)
    try:
        with end_at_once_on_signals():
            processes.gather(None)  # one that ends while another still connects looks like a network's fault
        yield processes
    except BaseException as error:
        processes.tell_failure(error)
        raise
    finally:
        with contextlib.suppress(RuntimeError):  # of one that is gone there is nothing to destroy
            dist.destroy_process_group()
