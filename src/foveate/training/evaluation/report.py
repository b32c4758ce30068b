# SPDX-License-Identifier: Apache-2.0
"""What an evaluation says: to programs as JSON, to people as a table."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from foveate.training.evaluation.annotations import GroundTruth
from foveate.training.evaluation.bootstrap import Figure, Resampling
from foveate.training.evaluation.measure import Task
from foveate.training.evaluation.predict import Run

__all__ = ["Report"]

_SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Report:
    """Figures with intervals, and what they cost.

    Attributes:
        task: "proposals" or "detections".
        bundle: Name of what was evaluated.
        truth: What it was evaluated on.
        figures: By name, in the order of the table.
        run: Results, time and memory.
        resampling: How the intervals were made.
    """

    task: Task
    bundle: str
    truth: GroundTruth
    figures: dict[str, Figure]
    run: Run
    resampling: Resampling

    def to_json(self) -> dict[str, Any]:
        """Everything but the results, with null for what could not be measured."""
        return {
            "schema": _SCHEMA,
            "task": self.task,
            "bundle": self.bundle,
            "dataset": {
                "name": self.truth.name,
                "pictures": len(self.truth.pictures),
                "objects": len(self.truth.objects),
                "classes": sorted(self.truth.category_ids),
            },
            "figures": {
                name: {key: _or_none(getattr(figure, key)) for key in ("value", "low", "high")}
                for name, figure in self.figures.items()
            },
            "interval": {
                "confidence": 0.95,
                "method": "percentile bootstrap over families of objects",
                "unit": self.truth.unit,
                "units": self.truth.families,
                "replicates": self.resampling.replicates,
                "seed": self.resampling.seed,
            },
            "cost": {
                "seconds_a_picture": _spread(self.run.seconds),
                "seconds_a_picture_for_masks": _spread(self.run.mask_seconds),
                "peak_memory_bytes": self.run.peak_memory,
            },
        }

    def table(self) -> Table:
        """A table for a terminal, without the figures that there were no objects for."""
        table = Table(
            title=f"{self.task} of {self.bundle} on {self.truth.name}", title_justify="left"
        )
        table.add_column("figure")
        table.add_column("value", justify="right")
        table.add_column("95 % interval", justify="right")
        region = ""
        for name, figure in self.figures.items():
            if math.isnan(figure.value):
                continue  # no such objects: the JSON says so, a person need not read it
            if region and region != name.split()[0]:
                table.add_section()
            region = name.split()[0]
            interval = "" if math.isnan(figure.low) else f"{figure.low:.3f} to {figure.high:.3f}"
            table.add_row(name, f"{figure.value:.3f}", interval)
        table.add_section()
        for name, value in self._cost():
            table.add_row(name, value)
        table.caption = self._caption()
        table.caption_justify = "left"
        return table

    def _cost(self) -> list[tuple[str, str]]:
        rows = []
        if self.run.seconds.size:
            rows += [
                ("seconds a picture, median", f"{np.median(self.run.seconds):.3f}"),
                ("... for run-length masks", f"{np.median(self.run.mask_seconds):.3f}"),
            ]
        return [*rows, ("peak memory", f"{self.run.peak_memory / 1e6:.0f} MB")]

    def _caption(self) -> str:
        plural = {"family": "families of cut-outs", "object": "single objects"}[self.truth.unit]
        return (
            f"{len(self.truth.pictures)} pictures, {len(self.truth.objects)} objects; intervals "
            f"by {self.resampling.replicates} resamplings of {self.truth.families} {plural}"
        )


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def _spread(seconds: NDArray[np.float64]) -> dict[str, float | None]:
    if not seconds.size:
        return {"median": None, "p90": None, "mean": None, "first": None}
    return {
        "median": float(np.median(seconds)),
        "p90": float(np.percentile(seconds, 90)),
        "mean": float(seconds.mean()),
        "first": float(seconds[0]),
    }
