# SPDX-License-Identifier: Apache-2.0
"""Several processes that train one network, started by ``torchrun``."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.distributed
from torch import Tensor, nn

from foveate.errors import BackendError, OptionError


@dataclass(frozen=True, kw_only=True)
class World:
    """The processes of a training run, and the place of this one among them.

    The schedule gives the size of the whole batch, and each process draws its share of it, so that
    the number of processes does not change what is learned.

    Args:
        device: Device that this process computes on.
        rank: Number of this process, from 0.
        size: Number of processes.
    """

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files and reports progress."""
        return self.rank == 0

    def share(self, batch: int) -> range:
        """Return the places in a batch that this process draws.

        Raises:
            OptionError: The batch cannot be split evenly.
        """
        if batch % self.size:
            raise OptionError(
                f"a batch of {batch} cannot be split evenly over {self.size} processes",
                remedy=f"use a multiple of {self.size}",
            )
        part = batch // self.size
        return range(self.rank * part, (self.rank + 1) * part)

    # Not `DistributedDataParallel`: steps of DeepMask alternate between two heads, so each leaves
    # different parameters without a gradient, and the wrapper would search the graph for them at
    # every step.
    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors on ``device`` with their mean over all processes, in place.

        Their shapes and order are the same in every process.
        """
        if self.size == 1:
            return
        pending = []
        for tensor in tensors:
            tensor.div_(self.size)
            pending.append(torch.distributed.all_reduce(tensor, async_op=True))
        for work in pending:
            work.wait()

    def agrees(self, answer: bool) -> bool:
        """Return whether all processes have the same answer."""
        share = torch.tensor(float(answer), device=self.device)
        self.average([share])
        return round(share.item() * self.size) in {0, self.size}

    def align(self, network: nn.Module) -> None:
        """Copy the weights and buffers of the first process to every other."""
        if self.size > 1:
            for tensor in network.state_dict().values():
                torch.distributed.broadcast(tensor, src=0)


@contextlib.contextmanager
def open_world(device: str) -> Iterator[World]:
    """Join the processes that ``torchrun`` started; without it, there is one process.

    The device is ``auto`` (a GPU if there is one), ``cpu`` or ``cuda``; each process of a machine
    takes a GPU of its own.

    Raises:
        BackendError: There is no such GPU.
    """
    chosen = _device(device, int(os.environ.get("LOCAL_RANK", "0")))
    if "WORLD_SIZE" not in os.environ:
        yield World(device=chosen)
        return
    torch.distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        rank, size = torch.distributed.get_rank(), torch.distributed.get_world_size()
        yield World(device=chosen, rank=rank, size=size)
    finally:
        torch.distributed.destroy_process_group()


def _device(name: str, local_rank: int) -> torch.device:
    if name not in {"auto", "cpu", "cuda"}:
        raise OptionError(f"no device is named {name!r}", remedy="use auto, cpu or cuda")
    count = torch.cuda.device_count()
    if name == "cpu" or (name == "auto" and count == 0):
        return torch.device("cpu")
    if local_rank >= count:
        raise BackendError(
            f"process {local_rank} of this machine needs a GPU of its own, PyTorch finds {count}",
            remedy="start as many processes as there are GPUs, or use --device cpu",
        )
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    return device
