# SPDX-License-Identifier: Apache-2.0
"""The steps from an image to its proposals, and their memory."""

from __future__ import annotations

from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

from foveate.kernels.crop_features.op import CROP_FEATURES
from foveate.kernels.mask_boxes.op import MASK_BOXES
from foveate.kernels.nms.op import NMS
from foveate.kernels.select_top_k.op import SELECT_TOP_K
from foveate.runtime.packed import Packed
from foveate.runtime.setup import FLOAT, INT, channels_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from foveate.bundle.manifest import TensorSpec
    from foveate.runtime.devices import Buffer, Stream
    from foveate.runtime.setup import Setup
    from foveate.runtime.sizes import Sizes


class Proposing:
    """The steps from an image to its proposals, for images of the same sizes.

    K is the number of windows that are refined; where the engines take fixed numbers of rows, some
    of them are padding. ``count`` is the number of windows that exist, which is available on the
    device only.

    Args:
        setup: What all slots of the pipeline have in common.
        sizes: Sizes of the images.
        image: (h, w, 3) uint8 RGB image at working size.
        stream: Stream that carries the chain from the image to the proposals.

    Attributes:
        k: Number of windows, K.
        found: Results: ``windows`` (K, 4) float32 x0, y0, side and 1 if the window exists, in
            pixels of the image; ``boxes`` (K, 4) float32 xyxy boxes of the masks, in pixels of the
            image; ``scores`` (K,) float32 objectness logits; ``count`` (1,) int32. The order is that
            of the objectness before refinement, which may change the scores. ``keep`` (K,) int32
            indices of the windows that have a mask, and whose box no better one covers, best first;
            ``keep_count`` (1,) int32 their number.
        logits: (K, S, S) mask logits.
        branches: Streams of the levels except the largest, if levels run at the same time.
    """

    def __init__(self, setup: Setup, sizes: Sizes, image: Buffer, stream: Stream) -> None:
        self._setup, self._sizes, self._image, self._stream = setup, sizes, image, stream
        self._top_k = min(setup.manifest.select.top_k, sizes.windows)
        self.k = k = _padded(self._top_k, setup)
        self.found = Packed(
            setup.device,
            windows=((k, 4), FLOAT),
            boxes=((k, 4), FLOAT),
            scores=((k,), FLOAT),
            count=((1,), INT),
            keep=((k,), INT),
            keep_count=((1,), INT),
        )
        self._canvases = [setup.image_canvas("propose", level) for level in sizes.levels]
        outputs = setup.manifest.stages["propose"].outputs
        self._grids = {spec.name: self._allocate_grids(spec) for spec in outputs}
        self._indices = setup.device.allocate((k, 3), INT)  # level, row and column of each window
        side = setup.manifest.mask.size
        self.logits = setup.tensor(setup.output("refine", "logits"), k, side, side)
        others = len(sizes.levels) - 1 if setup.parallel_levels else 0
        self.branches: list[Stream] = [setup.device.stream() for _ in range(others)]
        self._propose = self._bind_propose()
        self._refine = self._bind_refine()

    def maps(self, level: int) -> dict[str, Buffer]:
        """Return the maps of a level that a classifier may read, by name."""
        found = self._grids.items()
        return {name: grids[level] for name, grids in found if name.startswith("map_")}

    def enqueue(self, after: Mapping[int, Callable[[Stream], None]] = MappingProxyType({})) -> None:
        """Enqueue all steps.

        Args:
            after: Functions by level that are called with the stream of the level as soon as its
                maps are enqueued, to enqueue what reads them.
        """
        levels, border = self._sizes.levels, self._setup.manifest.windows.padding
        self._setup.letterbox(self._stream, self._image, self._canvases, levels, border=border)
        self._enqueue_levels(after)
        self._select()
        for run in self._refine:
            run()
        self._enclose()
        self._suppress()

    def _enqueue_levels(self, after: Mapping[int, Callable[[Stream], None]]) -> None:
        """Enqueue propose for each level, on the main stream or on branches that join it again."""
        start = self._stream.record() if self.branches else None
        for level, stream, run in self._propose:
            if start is not None and stream is not self._stream:
                stream.wait(start)
            run()
            if level in after:
                after[level](stream)
        for branch in self.branches:
            self._stream.wait(branch.record())

    def _select(self) -> None:
        """Select the best K windows of all levels."""
        manifest, found = self._setup.manifest, self.found
        self._setup.device.launch(
            SELECT_TOP_K,
            self._stream,
            self._grids["scores"],
            self._indices,
            found.buffer("windows"),
            found.buffer("scores"),
            found.buffer("count"),
            factors=tuple((level.horizontal, level.vertical) for level in self._sizes.levels),
            size=manifest.windows.size,
            stride=manifest.windows.stride,
            padding=manifest.windows.padding,
            window_nms_iou=manifest.select.window_nms_iou,
            top_k=self._top_k,
        )

    def _enclose(self) -> None:
        """Compute the boxes of the masks."""
        found = self.found
        self._setup.device.launch(
            MASK_BOXES,
            self._stream,
            self.logits,
            found.buffer("windows"),
            found.buffer("count"),
            found.buffer("boxes"),
            threshold=self._setup.manifest.mask.threshold,
            image_height=self._sizes.height,
            image_width=self._sizes.width,
        )

    def _suppress(self) -> None:
        """Keep the masks whose boxes no better one covers."""
        names = ("boxes", "scores", "count", "keep", "keep_count")
        self._setup.device.launch(
            NMS,
            self._stream,
            *(self.found.buffer(name) for name in names),
            iou=self._setup.manifest.select.proposal_nms_iou,
        )

    def _bind_propose(self) -> list[tuple[int, Stream, Callable[[], None]]]:
        """Return a run of propose per level with its index and stream, the largest level first.

        The memory that an engine takes for the largest level then serves the smaller ones too.
        """
        levels, engine = self._sizes.levels, self._setup.engines["propose"]
        areas = [level.canvas_height * level.canvas_width for level in levels]
        order = sorted(range(len(levels)), key=lambda i: -areas[i])
        streams = [self._stream, *self.branches] if self.branches else [self._stream] * len(levels)
        runs = []
        for index, stream in zip(order, streams, strict=True):
            outputs = {name: grids[index] for name, grids in self._grids.items()}
            run = engine.bind({"image": self._canvases[index], **outputs}, stream)
            runs.append((index, stream, run))
        return runs

    def _bind_refine(self) -> list[Callable[[], None]]:
        """Return the runs of refine, each with the crops of its windows before it."""
        setup, engine = self._setup, self._setup.engines["refine"]
        at_once = min(engine.rows_at_once or self.k, self.k)
        stage = setup.manifest.stages["refine"]
        crops = {spec.name: setup.tensor(spec, at_once, *self._crop(spec)) for spec in stage.inputs}
        scores = self.found.buffer("scores").view((self.k, 1), FLOAT)
        places = {"logits": self.logits, "mask_scores": scores}
        runs: list[Callable[[], None]] = []
        for first in range(0, self.k, at_once):
            last = min(first + at_once, self.k)
            parts = {name: crop.part(0, last - first) for name, crop in crops.items()}
            outputs = {spec.name: places[spec.name].part(first, last) for spec in stage.outputs}
            count = self.found.buffer("count")
            runs += [self._cropping(name, first, last, part) for name, part in parts.items()]
            runs.append(engine.bind({**parts, **outputs}, self._stream, rows=count, first=first))
        return runs

    def _cropping(self, name: str, first: int, last: int, crops: Buffer) -> Callable[[], None]:
        """Return a function that crops one input of refine for some windows."""
        stride = self._setup.output("propose", name).stride
        return partial(
            self._setup.device.launch,
            CROP_FEATURES,
            self._stream,
            self._grids[name],
            self._indices.part(first, last),
            crops,
            step=1 if stride is None else self._setup.manifest.windows.stride // stride,
        )

    def _crop(self, spec: TensorSpec) -> tuple[int, ...]:
        """Return the shape of an input of refine for one window."""
        source = self._setup.output("propose", spec.name)
        if source.stride is None:
            return (channels_of(source),)
        side = self._setup.manifest.windows.size // source.stride
        return (channels_of(source), side, side)

    def _allocate_grids(self, spec: TensorSpec) -> list[Buffer]:
        """Allocate an output of propose for all levels."""
        grids = []
        for level in self._sizes.levels:
            rows, columns = level.rows, level.columns
            if spec.stride is not None:
                rows = level.canvas_height // spec.stride
                columns = level.canvas_width // spec.stride
            grids.append(self._setup.tensor(spec, 1, channels_of(spec), rows, columns))
        return grids


def _padded(rows: int, setup: Setup) -> int:
    """Return the smallest number of rows, at least ``rows``, that all engines take."""
    engines = [setup.engines[stage] for stage in ("refine", "classify") if stage in setup.engines]
    while (more := max(engine.rows_for(rows) for engine in engines)) > rows:
        rows = more
    return rows
