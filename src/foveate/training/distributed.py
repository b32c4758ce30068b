# SPDX-License-Identifier: Apache-2.0
"""Several processes that train one network, started by `torchrun`.

NOTE: gradients are averaged here, not by `DistributedDataParallel`. DeepMask's steps alternate
between two heads, so each step leaves other parameters without a gradient; the wrapper would have
to search the graph for them at every step, and would take the reduction out of the optimisers'
hands. The whole batch is what a schedule says, and each process draws its share of it, so that the
number of processes does not change what is learnt.
"""

from __future__ import annotations

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
    """The processes of a training, and which one this is.

    Attributes:
        device: that this process computes on.
        rank: number of this process, from 0.
        size: number of processes.
    """

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes files and speaks."""
        return self.rank == 0

    def share(self, batch: int) -> range:
        """Tell which samples of a batch are this process's.

        Raises:
            OptionError: the batch cannot be split evenly.
        """
        if batch % self.size:
            raise OptionError(
                f"a batch of {batch} cannot be split evenly over {self.size} processes",
                remedy=f"use a multiple of {self.size}",
            )
        part = batch // self.size
        return range(self.rank * part, (self.rank + 1) * part)

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by their mean over all processes, in place.

        Args:
            tensors: the same shapes in the same order in every process, on `device`.
        """
        if self.size == 1:
            return
        waiting = []
        for tensor in tensors:
            tensor.div_(self.size)
            waiting.append(torch.distributed.all_reduce(tensor, async_op=True))
        for work in waiting:
            work.wait()

    def agrees(self, answer: bool) -> bool:
        """Tell whether all processes have the same answer."""
        share = torch.tensor(float(answer), device=self.device)
        self.average([share])
        return round(share.item() * self.size) in {0, self.size}

    def align(self, network: nn.Module) -> None:
        """Give every process the first one's weights and buffers."""
        if self.size > 1:
            for tensor in network.state_dict().values():
                torch.distributed.broadcast(tensor, src=0)


@contextlib.contextmanager
def world(device: str) -> Iterator[World]:
    """Join the processes that `torchrun` started; without it there is this one only.

    Args:
        device: `auto` (a GPU if there is one), `cpu`, or `cuda`; among several processes of a
            machine each takes a GPU of its own.

    Raises:
        BackendError: there is no such GPU.
    """
    chosen = _device(device, int(os.environ.get("LOCAL_RANK", "0")))
    if "WORLD_SIZE" not in os.environ:
        yield World(device=chosen)
        return
    torch.distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield World(
            device=chosen,
            rank=torch.distributed.get_rank(),
            size=torch.distributed.get_world_size(),
        )
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
            f"process {local_rank} of this machine wants a GPU of its own, PyTorch finds {count}",
            remedy="start as many processes as there are GPUs, or use --device cpu",
        )
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    return device
