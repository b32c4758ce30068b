# SPDX-License-Identifier: Apache-2.0
"""One image in flight: where each of its arrays lies and what shape it has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foveate.runtime.workspace import BYTE, FLOAT, INT, LONG

if TYPE_CHECKING:
    from foveate.bundle.manifest import StageSpec
    from foveate.runtime.devices import Buffer
    from foveate.runtime.settings import Settings
    from foveate.runtime.sizes import FeaturesPlan, LevelPlan, Plan
    from foveate.runtime.slot import Slot


class Frame:
    """The buffers of one image in its slot, by what they mean.

    K is the number of windows, N the largest number of detections; how many of the rows exist is
    written in ``count``, ``kept_count`` and ``found()["count"]``.

    Args:
        slot: Where the image lies until its result is collected.
        plan: Sizes that follow from the size of the image.
        settings: Sizes that do not.
    """

    def __init__(self, slot: Slot, plan: Plan, settings: Settings) -> None:
        self.slot = slot
        self.plan = plan
        self._settings = settings
        self.k = min(settings.select.top_k, plan.windows)
        buffer = slot.workspace.buffer
        self.image = buffer("image", (plan.height, plan.width, 3), BYTE)
        self.working = self.image  # unless the image is too large
        if (plan.working_height, plan.working_width) != (plan.height, plan.width):
            shape = (plan.working_height, plan.working_width, 3)
            self.working = buffer("working", shape, BYTE)
        self.picks = buffer("picks", (self.k, 3), INT)
        self.geometry = buffer("geometry", (self.k, 4), FLOAT)
        self.scores = buffer("scores", (self.k,), FLOAT)
        self.count = buffer("count", (1,), INT)
        side = settings.manifest.mask.size
        self.logits = buffer("logits", (self.k, side, side), FLOAT)
        self.boxes = buffer("boxes", (self.k, 4), FLOAT)
        self.kept = buffer("kept", (self.k,), INT)
        self.kept_count = buffer("kept count", (1,), INT)
        self.regions = buffer("regions", (self.k, 4), FLOAT)

    def canvas(self, level: LevelPlan) -> Buffer:
        """Return the canvas of a level; all levels share it, one after the other."""
        shape = (1, 3, level.canvas_height, level.canvas_width)
        return self.slot.workspace.buffer("canvas", shape, FLOAT)

    def grid(self, index: int, name: str) -> Buffer:
        """Return the output ``name`` of propose for a level."""
        level, stride = self.plan.levels[index], self._settings.manifest.windows.stride
        rows, columns = level.rows, level.columns
        if name.startswith("horizontal_"):
            rows = level.canvas_height // stride * step(name)
            columns = level.canvas_width // stride * step(name)
        shape = (1, self._channels("propose", name), rows, columns)
        return self.slot.workspace.buffer(f"{name} {index}", shape, FLOAT)

    def grids(self, name: str) -> list[Buffer]:
        """Return the output ``name`` of propose for all levels."""
        return [self.grid(index, name) for index in range(len(self.plan.levels))]

    def patches(self, name: str, windows: int) -> Buffer:
        """Return the input ``name`` of refine for some windows: patches of ``grids(name)``.

        All windows share it, some after the other.
        """
        spec = self._settings.manifest.windows
        shape: tuple[int, ...] = (windows, self._channels("propose", name))
        if name.startswith("horizontal_"):
            side = spec.size // spec.stride * step(name)
            shape = (*shape, side, side)
        return self.slot.workspace.buffer(f"{name} patches", shape, FLOAT)

    def features_canvas(self, seen: FeaturesPlan) -> Buffer:
        """Return the canvas that the features stage reads."""
        shape = (1, 3, seen.canvas_height, seen.canvas_width)
        return self.slot.workspace.buffer("features canvas", shape, FLOAT)

    def maps(self, seen: FeaturesPlan) -> dict[str, Buffer]:
        """Return the outputs of features by name; the number in a name is the stride."""
        maps = {}
        for spec in self._stage("features").outputs:
            stride = int(spec.name.rpartition("_")[2])
            channels = self._channels("features", spec.name)
            shape = (1, channels, seen.canvas_height // stride, seen.canvas_width // stride)
            maps[spec.name] = self.slot.workspace.buffer(spec.name, shape, FLOAT)
        return maps

    def classes(self) -> dict[str, Buffer]:
        """Return the outputs of classify by name."""
        columns = len(self._settings.manifest.class_names) + 1
        buffer = self.slot.workspace.buffer
        return {
            "probabilities": buffer("probabilities", (self.k, columns), FLOAT),
            "deltas": buffer("deltas", (self.k, columns, 4), FLOAT),
        }

    def found(self) -> dict[str, Buffer]:
        """Return the detections: (N, ...) each, and how many there are."""
        buffer, spec = self.slot.workspace.buffer, self._settings.classify
        assert spec is not None
        most = min(spec.max_detections, self.k * len(self._settings.manifest.class_names))
        return {
            "boxes": buffer("found boxes", (most, 4), FLOAT),
            "scores": buffer("found scores", (most,), FLOAT),
            "labels": buffer("found labels", (most,), LONG),
            "rows": buffer("found rows", (most,), INT),
            "count": buffer("found count", (1,), INT),
        }

    def _stage(self, stage: str) -> StageSpec:
        return self._settings.manifest.stages[stage]

    def _channels(self, stage: str, name: str) -> int:
        spec = next(spec for spec in self._stage(stage).outputs if spec.name == name)
        channels = spec.shape[1]
        assert isinstance(channels, int), f"{stage}: the channels of {name} vary"
        return channels


def step(name: str) -> int:
    """Return the pixels of ``horizontal_i`` from one cell to the next: 1, 2, 4, 8."""
    return 1 << (int(name.rpartition("_")[2]) - 1)
