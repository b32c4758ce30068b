# SPDX-License-Identifier: Apache-2.0
"""SGD as published: an optimizer per part, rates by epoch, mixed precision."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn

from foveate.errors import OptionError
from foveate.training.distributed import World
from foveate.training.loader import Drawn, Loader
from foveate.training.loop import require_finite
from foveate.training.original.objectives import Objective
from foveate.training.original.schedules import Schedule

Precision = Literal["float32", "bfloat16", "float16"]

# Name of the weighted sum of held-out losses, by which networks are compared.
OBJECTIVE = "objective"
_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_precision(name: str, device: torch.device) -> Precision:
    """Resolve ``auto``: bfloat16 on GPUs that support it, float16 on others, float32 on the CPU.

    Raises:
        OptionError: No precision has this name.
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


@dataclass
class SgdTraining:
    """The steps of a published schedule: a ``foveate.training.loop.Trainable``.

    Weights stay in float32. With another precision, products and convolutions are computed in it;
    with float16, gradients are scaled so that they do not vanish.

    Args:
        objective: Network with its parts and losses.
        schedule: Learning rates, momentum and weight decay.
        loader: Loader of this process's share of each batch.
        world: Processes that train together.
        precision: Precision of the forward and backward pass.
        seed: Seed of dropout, together with the step and the process.

    Attributes:
        drawn: Batch of the last step.
        optimizers: Optimizer of each part that is not frozen.
    """

    objective: Objective
    schedule: Schedule
    loader: Loader
    world: World
    _: KW_ONLY
    precision: Precision = "float32"
    seed: int = 0
    drawn: Drawn | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        kind, enabled = self.world.device.type, self.precision == "float16"
        self._scaler = torch.amp.GradScaler(kind, enabled=enabled)
        self.optimizers = {
            name: _optimizer(part, self.schedule)
            for name, part in self.objective.parts().items()
            if any(p.requires_grad for p in part.parameters())
        }
        self.world.align(self.objective.network)

    def step(self, index: int) -> dict[str, float]:
        """Train on the batch of a step; return the losses, averaged over the processes."""
        self.drawn = self.loader.take(index)
        batch = self.drawn.batch
        self._set_rates(index)
        # The rank is part of the seed, so that no two processes drop the same units.
        torch.manual_seed((self.seed * 1_000_003 + index) * 4099 + self.world.rank)
        self.objective.train_mode()
        with self._autocast():
            losses = self.objective.losses(batch)
        # Averaged before the check, so that all processes stop at the same step.
        means = {name: loss.detach().clone() for name, loss in losses.items()}
        self.world.average(means.values())
        values = require_finite(means, index)
        # To None: with a gradient of 0, momentum and decay would still move an idle head.
        self.objective.network.zero_grad(set_to_none=True)
        self._scaler.scale(self.objective.total(losses)).backward()  # type: ignore[no-untyped-call]  # untyped in PyTorch
        # A batch of one head leaves the other without gradients: its momentum must not change.
        stepped = [o for o in self.optimizers.values() if any(True for _ in _gradients(o))]
        self.world.average(gradient for o in stepped for gradient in _gradients(o))
        for optimizer in stepped:
            self._scaler.step(optimizer)
        self._scaler.update()
        return values

    def measure(self, batches: Iterable[Any]) -> dict[str, float]:
        """Compute the mean losses on held-out batches, over all processes.

        Returns:
            Losses by name, and their weighted sum as ``OBJECTIVE``.
        """
        self.objective.network.eval()
        found: defaultdict[str, list[Tensor]] = defaultdict(list)
        with torch.no_grad(), self._autocast():
            for batch in batches:
                for name, loss in self.objective.losses(batch).items():
                    found[name].append(loss)
        means = {name: torch.stack(losses).mean() for name, losses in sorted(found.items())}
        means[OBJECTIVE] = self.objective.total(means)
        self.world.average(means.values())
        return {name: mean.item() for name, mean in means.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return the network, the optimizers and the scale of gradients."""
        return {
            "network": self.objective.network.state_dict(),
            "optimizers": {name: o.state_dict() for name, o in self.optimizers.items()},
            "scaler": self._scaler.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the return value of ``state_dict``."""
        self.objective.network.load_state_dict(state["network"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        self._scaler.load_state_dict(state["scaler"])

    def _autocast(self) -> torch.autocast:
        dtype = _DTYPES.get(self.precision)
        return torch.autocast(self.world.device.type, dtype, enabled=dtype is not None)

    def _set_rates(self, index: int) -> None:
        rate = self.schedule.learning_rate(index)
        before = self.schedule.learning_rate(max(index - 1, 0))
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = rate
            if self.schedule.momentum_follows_rate and rate != before:
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
