# SPDX-License-Identifier: Apache-2.0
"""In which precision do the layers compute: as the file asks for, and as an engine says?

NOTE: What is left in float32 without a word is the usual failure: TensorRT 11 takes the types of the
file as they are, and an option that once made an engine float16 is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from foveate.errors import ModelError
from foveate.export.checks.graph import Layer

LEAST_SHARE = 0.5
"""Of the multiplications, in the claimed precision: sensitive layers may stay out, not most of them."""

_ENGINE_TYPES = {"half": "fp16", "fp16": "fp16", "int8": "int8", "float": "fp32", "fp32": "fp32"}


@dataclass(frozen=True, kw_only=True)
class Share:
    """What of a stage runs in a precision, each from 0 to 1.

    Layers whose shapes are not known count in `nodes` and `parameters` only, and where none is known
    `macs` is that of the nodes.
    """

    nodes: float
    parameters: float
    macs: float


def shares(layers: Iterable[Layer]) -> dict[str, Share]:
    """Return the share of each precision that occurs, of the layers that multiply and add."""
    found = list(layers)

    def part(values: Mapping[str, int]) -> dict[str, float]:
        total = sum(values.values())
        return {name: value / total if total else 0.0 for name, value in values.items()}

    names = sorted({one.precision for one in found})
    mine = {name: [one for one in found if one.precision == name] for name in names}
    nodes = part({name: len(of) for name, of in mine.items()})
    parameters = part({name: sum(one.parameters for one in of) for name, of in mine.items()})
    macs = part({name: sum(one.macs or 0 for one in of) for name, of in mine.items()})
    if not any(macs.values()):
        macs = nodes
    return {
        name: Share(nodes=nodes[name], parameters=parameters[name], macs=macs[name])
        for name in names
    }


def check_precision(stage: str, found: Mapping[str, Share], claimed: str) -> None:
    """Refuse a file that does not compute in what it claims.

    Raises:
        ModelError: Less than `LEAST_SHARE` of the multiplications are in that precision.
    """
    if not found:
        return
    share = found[claimed].macs if claimed in found else 0.0
    if share < LEAST_SHARE:
        most = max(found, key=lambda name: found[name].macs)
        raise ModelError(
            f"the stage {stage!r} claims {claimed}, but {found[most].macs:.0%} of its "
            f"multiplications are {most} and {share:.0%} are {claimed}",
            remedy=f"export the bundle again with --precision {claimed}",
        )


def engine_shares(report: Any) -> dict[str, float] | None:
    """Return the share of each precision among the layers that an engine inspector lists.

    Args:
        report: its JSON, decoded: of TensorRT 10 with ``Format/Datatype``, or of 11 with ``DataType``.

    Returns:
        None if it tells no types, as after a build without detailed verbosity.
    """
    entries = report.get("Layers", []) if isinstance(report, dict) else []
    counts: dict[str, int] = {}
    for layer in entries:
        kinds = _kinds(layer) if isinstance(layer, dict) else []
        if kinds:
            # The smallest type of a layer's inputs is the one that its kernel multiplies in.
            kind = min(kinds, key=("int8", "fp16", "fp32").index)
            counts[kind] = counts.get(kind, 0) + 1
    total = sum(counts.values())
    return {name: count / total for name, count in counts.items()} if total else None


def check_engine(name: str, report: Any, claimed: str) -> None:
    """Refuse an engine whose inspector lists no layer in the claimed precision.

    Raises:
        ModelError: It is float32 without a word.
    """
    found = engine_shares(report)
    if found is not None and claimed != "fp32" and not found.get(claimed):
        most = max(found, key=lambda kind: found[kind])
        raise ModelError(
            f"the engine {name!r} claims {claimed}, but no layer of it is: {found[most]:.0%} are "
            f"{most}",
            remedy="export the bundle in that precision, and compile it again",
        )


def _kinds(layer: Mapping[str, Any]) -> list[str]:
    kinds = []
    for tensor in [*layer.get("Inputs", []), *layer.get("Outputs", [])]:
        if isinstance(tensor, dict):
            text = str(tensor.get("DataType") or tensor.get("Format/Datatype") or "").lower()
            kinds += [kind for word, kind in _ENGINE_TYPES.items() if word in text.split()]
            # TensorRT 10 writes one word with the layout, as in "Row major linear FP16 format".
    return kinds
