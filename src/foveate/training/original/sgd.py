# SPDX-License-Identifier: Apache-2.0
"""SGD as the three systems were trained with: an optimiser a part, rates by epoch, mixed precision."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, Literal, TypeVar, cast, get_args

import torch
from torch import Tensor, nn

from foveate.errors import OptionError
from foveate.training.distributed import World
from foveate.training.loader import Drawn, Loader
from foveate.training.loop import require_finite
from foveate.training.original.schedules import Schedule
from foveate.training.original.task import Task

B = TypeVar("B")

Precision = Literal["float32", "bfloat16", "float16"]

OBJECTIVE = "objective"
"""Name of the weighed sum of held-out losses, which tells a better network from a worse."""

_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_precision(name: str, device: torch.device) -> Precision:
    """Resolve `auto`: bfloat16 where a GPU computes in it, float16 on older ones, else float32.

    Raises:
        OptionError: no precision has this name.
    """
    if name == "auto":
        if device.type != "cuda":
            return "float32"
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    if name not in get_args(Precision):
        raise OptionError(
            f"no precision is named {name!r}", remedy="use auto, float32, bfloat16 or float16"
        )
    return cast("Precision", name)


class SgdTraining(Generic[B]):
    """The steps of a published schedule: a `training.loop.Trainable`.

    Weights stay in float32; with another precision, products and convolutions are computed in it,
    and with float16 gradients are scaled so that they do not vanish.

    Args:
        task: the network with its parts and losses.
        schedule: rates, momentum, weight decay.
        loader: gives this process's share of each step's batch.
        world: the processes that train together.
        precision: of the forward and backward pass.
        seed: of dropout, with the step and the process.
    """

    def __init__(
        self,
        task: Task[B],
        schedule: Schedule,
        loader: Loader[Any, B],
        world: World,
        *,
        precision: Precision = "float32",
        seed: int = 0,
    ):
        self._task = task
        self._schedule = schedule
        self._loader = loader
        self._world = world
        self._precision = precision
        self._seed = seed
        self._scaler = torch.amp.GradScaler(world.device.type, enabled=precision == "float16")
        self._optimizers = {
            name: _optimizer(part, schedule)
            for name, part in task.parts().items()
            if any(p.requires_grad for p in part.parameters())
        }
        self.drawn: Drawn[B] | None = None
        world.align(task.network)

    @property
    def optimizers(self) -> Mapping[str, torch.optim.SGD]:
        """The optimiser of each part that is not frozen."""
        return self._optimizers

    def step(self, index: int) -> dict[str, float]:
        """Train on the batch of a step; gives the losses, averaged over the processes."""
        self.drawn = self._loader.take(index)
        batch = self.drawn.batch
        self._set_rates(index)
        # The process is part of it, so that no two drop the same units.
        torch.manual_seed((self._seed * 1_000_003 + index) * 4099 + self._world.rank)
        self._task.train_mode()
        with self._autocast():
            losses = self._task.losses(batch)
        means = {name: loss.detach().clone() for name, loss in losses.items()}
        self._world.average(means.values())
        values = require_finite(means, index)
        self._task.network.zero_grad(set_to_none=True)
        self._scaler.scale(self._task.objective(losses)).backward()  # type: ignore[no-untyped-call]  # torch's is untyped
        stepped = [self._optimizers[p] for p in self._task.stepped(batch) if p in self._optimizers]
        self._world.average(gradient for o in stepped for gradient in _gradients(o))
        for optimizer in stepped:
            self._scaler.step(optimizer)
        self._scaler.update()
        return values

    def measure(self, batches: Iterable[B]) -> dict[str, float]:
        """Compute the mean losses on batches that nothing is learnt from, over all processes.

        Returns:
            The losses by name, and as `OBJECTIVE` what the task makes of them together.
        """
        self._task.network.eval()
        found: defaultdict[str, list[Tensor]] = defaultdict(list)
        with torch.no_grad(), self._autocast():
            for batch in batches:
                for name, loss in self._task.losses(batch).items():
                    found[name].append(loss)
        means = {name: torch.stack(losses).mean() for name, losses in sorted(found.items())}
        means[OBJECTIVE] = self._task.objective(means)
        self._world.average(means.values())
        return {name: mean.item() for name, mean in means.items()}

    def state_dict(self) -> dict[str, Any]:
        """Network, optimisers and the scale of gradients."""
        return {
            "network": self._task.network.state_dict(),
            "optimizers": {name: o.state_dict() for name, o in self._optimizers.items()},
            "scaler": self._scaler.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._task.network.load_state_dict(state["network"])
        for name, optimizer in self._optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        self._scaler.load_state_dict(state["scaler"])

    @contextlib.contextmanager
    def _autocast(self) -> Iterator[None]:
        if self._precision == "float32":
            yield
            return
        with torch.autocast(self._world.device.type, _DTYPES[self._precision]):
            yield

    def _set_rates(self, index: int) -> None:
        rate = self._schedule.learning_rate(index)
        before = self._schedule.learning_rate(max(index - 1, 0))
        for optimizer in self._optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = rate
            if self._schedule.momentum_follows_rate and rate != before:
                for state in optimizer.state.values():
                    if state.get("momentum_buffer") is not None:
                        state["momentum_buffer"].mul_(rate / before)


def _optimizer(part: nn.Module, schedule: Schedule) -> torch.optim.SGD:
    decay = schedule.weight_decay
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in part.named_parameters():
        if parameter.requires_grad:
            spared = name.endswith("bias") and not schedule.decays_biases
            groups.setdefault(0.0 if spared else decay, []).append(parameter)
    return torch.optim.SGD(
        [{"params": found, "weight_decay": weight} for weight, found in groups.items()],
        lr=schedule.learning_rate(0),
        momentum=schedule.momentum,
    )


def _gradients(optimizer: torch.optim.SGD) -> Iterator[Tensor]:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                yield parameter.grad
