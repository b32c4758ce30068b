# SPDX-License-Identifier: Apache-2.0
"""The declaration of an operation."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from foveate.kernels.plans import Steps


@dataclass(frozen=True, kw_only=True)
class Op:
    """One operation that a device can launch.

    All versions take the same arguments: inputs and outputs as buffers, allocated by the caller,
    then plain numbers as keywords. No version allocates memory that outlives it or returns a value.

    Args:
        name: Name for people and profiles.
        host: The version for numpy memory.
        outputs: Names of the arguments that are written.
        kernels: Names of the device kernels in the order of their launch, as in ``launches``,
            without the suffix of element type and access width; empty if there is none.
        plan: Gives the launches on a device, see ``plans``; None if there are no kernels.
    """

    name: str
    host: Callable[..., None]
    outputs: tuple[str, ...]
    kernels: tuple[str, ...] = ()
    plan: Callable[..., Steps] | None = None

    def __post_init__(self) -> None:
        unknown = set(self.outputs) - set(self.arguments)
        assert not unknown, f"{self.name}: no arguments {unknown}"

    @property
    def arguments(self) -> tuple[str, ...]:
        """Names of the arguments in the order of the call."""
        return tuple(inspect.signature(self.host).parameters)
