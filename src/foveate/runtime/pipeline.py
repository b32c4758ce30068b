# SPDX-License-Identifier: Apache-2.0
"""The pipeline: pictures in, detections out."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, TypeVar, overload

import numpy as np

from foveate.errors import BundleError, InputError
from foveate.pictures import as_picture
from foveate.runtime.devices import HostDevice
from foveate.runtime.frame import Frame
from foveate.runtime.options import Options
from foveate.runtime.plan import Plan
from foveate.runtime.results import fetch_detections, fetch_proposals
from foveate.runtime.settings import Settings
from foveate.runtime.slot import Slot, Turns
from foveate.runtime.stages import Stages

if TYPE_CHECKING:
    from types import TracebackType

    from foveate.arrays import Array, Bytes
    from foveate.bundle import Bundle
    from foveate.detections import Detections, Proposals
    from foveate.runtime.devices import Device
    from foveate.runtime.engines import Engine

__all__ = ["Picture", "Pipeline"]

Result = TypeVar("Result")
Picture: TypeAlias = "Array | str | os.PathLike[str]"


class Pipeline:
    """Finds, outlines and names the objects in pictures.

    A picture is a file or a uint8 array (H, W, 3) in RGB order. Several threads may use one
    pipeline.

    Args:
        bundle: The bundle whose manifest says what the engines mean.
        engines: Engine of each stage, by name; owned by the pipeline from now on. Without
            ``features`` and ``classify`` the pipeline only proposes.
        device: Where the operations between the engines run; the host by default.
        options: What the user decides.

    Raises:
        BundleError: An engine is missing or does not fit the manifest.
    """

    def __init__(
        self,
        bundle: Bundle,
        engines: Mapping[str, Engine],
        *,
        device: Device | None = None,
        options: Options | None = None,
    ) -> None:
        self.bundle = bundle
        self.options = options or Options()
        self.engines = dict(engines)
        _check_engines(bundle, engines)
        self._device: Device = device or HostDevice()
        self._settings = Settings.merge(bundle.manifest, self.options)
        self._stages = Stages(self._device, engines, self._settings, Turns())
        self._free: list[Slot] = []
        self._lock = threading.Lock()

    @overload  # a str is a sequence of str too, but one picture all the same
    def __call__(self, pictures: Picture) -> Detections: ...  # type: ignore[overload-overlap]  # a str is a sequence too

    @overload
    def __call__(self, pictures: Sequence[Picture]) -> list[Detections]: ...

    def __call__(self, pictures: Picture | Sequence[Picture]) -> Detections | list[Detections]:
        """Find the objects in a picture, or in each picture of a list.

        Raises:
            InputError: A picture cannot be read.
            BundleError: The bundle only proposes.
        """
        if isinstance(pictures, (str, os.PathLike, np.ndarray)):
            return next(self.stream([pictures]))
        if isinstance(pictures, Sequence):
            return list(self.stream(pictures))
        as_picture(pictures)  # raises the error that says what a picture is
        raise AssertionError

    def propose(self, picture: Picture) -> Proposals:
        """Find the objects in a picture, without their names, best first."""
        frame = self._begin(as_picture(picture), classify=False)
        return self._end(frame, partial(fetch_proposals, self._device, frame, self._settings))

    def stream(self, pictures: Iterable[Picture]) -> Iterator[Detections]:
        """Find the objects in each picture, in order, with several pictures in flight.

        At most ``options.slots`` pictures are held at a time; the next one is asked for only when
        there is room. A picture may be changed as soon as the next one is asked for.

        Raises:
            InputError: A picture cannot be read; those before it have been returned.
        """
        self._require_classify()
        flying: deque[Frame] = deque()
        try:
            for picture in pictures:
                if len(flying) >= self.options.slots:
                    yield self._detections(flying.popleft())
                try:
                    pixels = as_picture(picture)
                except InputError:
                    while flying:
                        yield self._detections(flying.popleft())
                    raise
                flying.append(self._begin(pixels, classify=True))
                del picture, pixels  # the slot has its own copy
            while flying:
                yield self._detections(flying.popleft())
        finally:
            for frame in flying:
                self._end(frame, lambda: None)

    def close(self) -> None:
        """Release engines and device. The pipeline cannot be used afterwards."""
        with self._lock:
            self._free.clear()
        for engine in self.engines.values():
            engine.close()
        self._device.close()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Pipeline({self.bundle.manifest.name!r}, device={self._device.name!r})"

    def _begin(self, picture: Bytes, *, classify: bool) -> Frame:
        """Enqueue all that is to be done with a picture."""
        manifest, settings = self.bundle.manifest, self._settings
        features = manifest.features if classify else None
        height, width = picture.shape[:2]
        plan = Plan.of(height, width, settings.pyramid, manifest.windows, features)
        with self._lock:  # the stages serve the pictures in one order
            slot = self._free.pop() if self._free else Slot(self._device)
            frame = Frame(slot, plan, settings)
            self._stages.upload(frame, picture)
            if classify:
                self._stages.features(frame)
            self._stages.propose(frame)
            self._stages.refine(frame)
            if classify:
                self._stages.classify(frame)
        return frame

    def _detections(self, frame: Frame) -> Detections:
        return self._end(frame, partial(fetch_detections, self._device, frame, self._settings))

    def _end(self, frame: Frame, fetch: Callable[[], Result]) -> Result:
        """Wait for a picture, fetch its result, and make its slot free for the next one.

        A slot whose work failed is not used again.
        """
        frame.slot.synchronize()
        result = fetch()
        with self._lock:
            if len(self._free) < self.options.slots:
                self._free.append(frame.slot)
        return result

    def _require_classify(self) -> None:
        if "classify" not in self.engines:
            raise BundleError(
                "the bundle only proposes: it has no stage 'classify'",
                file=self.bundle.root,
                remedy="use Pipeline.propose, or a bundle that was exported with a classifier",
            )


def _check_engines(bundle: Bundle, engines: Mapping[str, Engine]) -> None:
    """Check that each stage has an engine, with the tensors that the manifest names."""
    for stage, spec in bundle.manifest.networks.items():
        if stage not in engines:
            raise BundleError(f"the stage {stage!r} has no engine", file=bundle.root)
        engine = engines[stage]
        for said, found in ((spec.inputs, engine.inputs), (spec.outputs, engine.outputs)):
            names = sorted(tensor.name for tensor in said), sorted(tensor.name for tensor in found)
            if names[0] != names[1]:
                raise BundleError(
                    f"the stage {stage!r} has {', '.join(names[1])}, "
                    f"the manifest says {', '.join(names[0])}",
                    file=bundle.stage_path(stage),
                    remedy="export the bundle again",
                )
