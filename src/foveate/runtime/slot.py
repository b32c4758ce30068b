# SPDX-License-Identifier: Apache-2.0
"""Memory and streams of one image in flight."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from foveate.bundle.manifest import Manifest, TensorSpec
    from foveate.runtime.devices import Buffer, Device, Event, Stream
    from foveate.runtime.sizes import Sizes

REFINED_AT_ONCE = 10
"""Windows per run of refine. A run needs about 2 MB per window, whatever K is, and the memory of so
few windows stays in the caches of a processor."""

_BYTE, _INT = np.dtype(np.uint8), np.dtype(np.int32)
_LONG, _FLOAT = np.dtype(np.int64), np.dtype(np.float32)


class DetectionBuffers(NamedTuple):
    """The detections of an image: (N, ...) arrays, of which the first ``found`` rows exist.

    Args:
        boxes: (N, 4) float32 xyxy, in pixels of the image.
        scores: (N,) float32, calibrated, best first.
        labels: (N,) int64 class indices, without the background.
        rows: (N,) int32 index of the proposal that each detection is made from.
        found: (1,) int32 number of detections.
    """

    boxes: Buffer
    scores: Buffer
    labels: Buffer
    rows: Buffer
    found: Buffer


class Slot:
    """Memory and streams of one image in flight, made for the sizes of the image.

    K is the number of windows that are refined. ``count`` is the number of those that exist, and
    ``keep_count`` the number of those that are classified; both are available on the device only.
    The slot owns its memory and its streams.

    Args:
        device: Device of the memory and the streams.
        manifest: Manifest of the bundle, with the options of the pipeline applied.
        sizes: Sizes of the image; without features, the slot can only propose.

    Attributes:
        main: Stream that carries the chain from the image to its detections.
        side: Stream that carries the steps that depend on the image only.
        image: (H, W, 3) uint8 RGB.
        working: (h, w, 3) uint8 RGB, the image at working size; ``image`` itself if they are equal.
        canvases: (1, 3, rows, columns) float32, one per level.
        grids: Outputs of propose by name, one buffer per level.
        indices: (K, 3) int32 level, row and column of each window.
        windows: (K, 4) float32 x0, y0, side and 1 if the window exists, in pixels of the image.
        scores: (K,) float32 objectness logits, best first.
        refined_at_once: Number of windows per run of refine.
        crops: Inputs of refine by name, for that many windows.
        logits: (K, S, S) float32 mask logits.
        boxes: (K, 4) float32 xyxy boxes of the masks, in pixels of the image.
        keep: (K,) int32 indices of the proposals that are classified.
        regions: (K, 4) float32 boxes of these proposals, in pixels of the features canvas.
        features_canvas: (1, 3, rows, columns) float32, or None.
        maps: Outputs of features by name.
        probabilities: (K, C + 1) float32, the background first.
        deltas: (K, C + 1, 4) float32 box regression.
        detections: Results of postprocessing.
    """

    def __init__(self, device: Device, manifest: Manifest, sizes: Sizes) -> None:
        self.sizes = sizes
        self.main: Stream = device.stream()
        self.side: Stream = device.stream()
        self._device = device
        self._manifest = manifest
        self.k = min(manifest.select.top_k, sizes.windows)
        self._allocate_proposals()
        self.features_canvas: Buffer | None = None
        if sizes.features is not None:
            self._allocate_classification(sizes.features.canvas_height, sizes.features.canvas_width)

    def step(self, name: str) -> int:
        """Return the distance between windows in cells of the output ``name`` of propose."""
        stride = self._output("propose", name).stride
        return 1 if stride is None else self._manifest.windows.stride // stride

    def synchronize(self) -> None:
        """Wait for both streams and raise the error that stopped one of them.

        Both are waited for in any case, so that the memory is free for the next image.
        """
        failures = []
        for end in [self.side.record(), self.main.record()]:
            try:
                end.synchronize()
            except Exception as error:  # noqa: BLE001 - raised below, when both streams are done
                failures.append(error)
        if failures:
            raise failures[0]

    def _allocate_proposals(self) -> None:
        sizes, k, floats = self.sizes, self.k, self._floats
        self.image = self._device.allocate((sizes.height, sizes.width, 3), _BYTE)
        working = (sizes.working_height, sizes.working_width, 3)
        self.working = self.image
        if working != self.image.shape:
            self.working = self._device.allocate(working, _BYTE)
        self.canvases = [
            floats(1, 3, level.canvas_height, level.canvas_width) for level in sizes.levels
        ]
        self.grids = {spec.name: self._grids(spec) for spec in self._outputs("propose")}
        self.indices, self.windows = self._ints(k, 3), floats(k, 4)
        self.scores, self.count = floats(k), self._ints(1)
        self.refined_at_once = few = min(REFINED_AT_ONCE, k)
        self.crops = {
            spec.name: floats(few, *self._crop(spec))
            for spec in self._manifest.stages["refine"].inputs
        }
        side = self._manifest.mask.size
        self.logits, self.boxes = floats(k, side, side), floats(k, 4)
        self.keep, self.keep_count, self.regions = self._ints(k), self._ints(1), floats(k, 4)

    def _allocate_classification(self, rows: int, columns: int) -> None:
        floats, spec = self._floats, self._manifest.classify
        assert spec is not None
        self.features_canvas = floats(1, 3, rows, columns)
        self.maps = {
            one.name: floats(1, _channels(one), rows // one.stride, columns // one.stride)
            for one in self._outputs("features")
            if one.stride is not None
        }
        classes = len(self._manifest.class_names)
        self.probabilities = floats(self.k, classes + 1)
        self.deltas = floats(self.k, classes + 1, 4)
        n = min(spec.max_detections, self.k * classes)
        labels = self._device.allocate((n,), _LONG)
        self.detections = DetectionBuffers(
            floats(n, 4), floats(n), labels, self._ints(n), self._ints(1)
        )

    def _grids(self, spec: TensorSpec) -> list[Buffer]:
        """Allocate an output of propose for all levels."""
        grids = []
        for level in self.sizes.levels:
            rows, columns = level.rows, level.columns
            if spec.stride is not None:
                rows = level.canvas_height // spec.stride
                columns = level.canvas_width // spec.stride
            grids.append(self._floats(1, _channels(spec), rows, columns))
        return grids

    def _crop(self, spec: TensorSpec) -> tuple[int, ...]:
        """Return the shape of an input of refine for one window."""
        source = self._output("propose", spec.name)
        if source.stride is None:
            return (_channels(source),)
        side = self._manifest.windows.size // source.stride
        return (_channels(source), side, side)

    def _outputs(self, stage: str) -> tuple[TensorSpec, ...]:
        return self._manifest.stages[stage].outputs

    def _output(self, stage: str, name: str) -> TensorSpec:
        return next(one for one in self._outputs(stage) if one.name == name)

    def _floats(self, *shape: int) -> Buffer:
        return self._device.allocate(shape, _FLOAT)

    def _ints(self, *shape: int) -> Buffer:
        return self._device.allocate(shape, _INT)


class StageOrder:
    """The order of the images, in which each stage processes one image after the other.

    A stage of an image may run while the stage before it processes the next image, but never twice
    at a time, which bounds the memory that an engine needs for its intermediate results.
    """

    def __init__(self) -> None:
        self._last: dict[str, Event] = {}

    def begin(self, stage: str, stream: Stream) -> None:
        """Make ``stream`` wait until the stage is done with the previous image."""
        if stage in self._last:
            stream.wait(self._last[stage])

    def end(self, stage: str, stream: Stream) -> None:
        """Mark the work enqueued so far on ``stream`` as the end of the stage for its image."""
        self._last[stage] = stream.record()


def _channels(spec: TensorSpec) -> int:
    channels = spec.shape[1]
    assert isinstance(channels, int), f"the channels of {spec.name} vary"
    return channels
