# SPDX-License-Identifier: Apache-2.0
"""The PyTorch networks that a bundle was exported from."""

from dataclasses import dataclass, field

from foveate.bundle.schema import require

PRECISIONS = ("fp32", "fp16", "int8")

LEAST_SHARE = 0.5
"""Smallest share of the multiplications of a stage that must be in its precision."""


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """A PyTorch network: name of its builder, and the builder's arguments except the classes."""

    name: str
    sizes: dict[str, bool | int | str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SourceSpec:
    """The PyTorch networks that the stages were exported from; enough to read them back.

    Args:
        networks: The proposal network, then the classifier if there is one.
        svd: Ranks to which the linear layers of each tower were truncated.
        optimize: Names of the optimization passes that were applied.
        precision: Precision of each stage that is not float32: one of ``PRECISIONS``.
    """

    networks: tuple[NetworkSpec, ...] = ()
    svd: tuple[int, ...] = ()
    optimize: tuple[str, ...] = ()
    precision: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(len(self.networks) <= 2, "networks must be at most 2")
        for stage, name in self.precision.items():
            require(
                name in PRECISIONS,
                f"precision of the stage {stage!r} must be one of {', '.join(PRECISIONS)}, "
                f"found {name!r:.60}",
            )
