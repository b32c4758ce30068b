# SPDX-License-Identifier: Apache-2.0
"""Exact passes by name: the same function of the networks, in less work.

A pass changes a cascade in place, depends on nothing but its shapes, and says what it saved. So the
networks of a bundle are read back by doing the same to networks of the same shapes, and filling
them. Folded weights are products, made in float64, and no exact halves: they stay float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from foveate.errors import OptionError
from foveate.export.passes.batch_towers import batch_towers
from foveate.export.passes.fold_conv1x1 import fold_conv1x1
from foveate.export.passes.fold_encoder import fold_encoder
from foveate.export.passes.saving import Saving
from foveate.models.checkpoint import Cascade

Record = dict[str, Any]

PASSES: Mapping[str, Callable[[Cascade], Iterator[Saving]]] = {
    "fold-conv1x1": fold_conv1x1,
    "fold-encoder": fold_encoder,
    "batch-towers": batch_towers,
}
"""In the order in which they run, whatever the order that they are named in."""


def check_passes(names: Sequence[str]) -> None:
    """Refuse a name that is none of `PASSES`.

    Raises:
        OptionError: there is no such pass.
    """
    for name in names:
        if name not in PASSES:
            raise OptionError(
                f"no pass is named {name!r}", remedy=f"use some of {', '.join(PASSES)}"
            )


def run_passes(cascade: Cascade, names: Sequence[str]) -> list[Record]:
    """Run passes, in place.

    Args:
        cascade: its networks are changed.
        names: of the passes.

    Returns:
        For each change: the pass, the layer, and what it cost and costs, see `Work`.

    Raises:
        OptionError: there is no such pass.
    """
    check_passes(names)
    return [
        {
            "pass": name,
            "layer": saving.layer,
            "before": asdict(saving.before),
            "after": asdict(saving.after),
        }
        for name, run in PASSES.items()
        if name in names
        for saving in run(cascade)
    ]
