# SPDX-License-Identifier: Apache-2.0
"""The pipeline: images in, detections out."""

from __future__ import annotations

import os
import threading
import traceback
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Literal, NoReturn, TypeVar, cast, overload

from foveate.errors import BackendError
from foveate.images.reading import as_image
from foveate.runtime.device_results import DeviceDetections, Occupied, device_detections_of
from foveate.runtime.devices import CpuDevice
from foveate.runtime.images import Image, is_sequence, iterate
from foveate.runtime.in_flight import InFlight
from foveate.runtime.options import PipelineOptions
from foveate.runtime.results import detections_of, findings_of, proposals_of
from foveate.runtime.setup import Setup
from foveate.runtime.signatures import check_classifies, check_engines
from foveate.runtime.sizes import Sizes, check_classifiable
from foveate.runtime.slots import Slots
from foveate.runtime.tiled import Tiled
from foveate.runtime.tiling import Tiling

if TYPE_CHECKING:
    from foveate.arrays import Array, UInt8Array
    from foveate.bundle import Bundle, Manifest
    from foveate.results.detections import Detections, Findings, Proposals
    from foveate.runtime.devices import Device
    from foveate.runtime.devices.interop import GpuImage
    from foveate.runtime.engines import Engine
    from foveate.runtime.slot import Kind, Slot
    from foveate.runtime.steps import Steps
    from foveate.runtime.video import VideoResults
    from foveate.video.frames import VideoSource

Result = TypeVar("Result")


class Pipeline:
    """A pipeline that finds, outlines and classifies the objects in images.

    An image is a file or an (H, W, 3) uint8 array in RGB order. On a GPU, the array may lie in its
    memory and belong to any library with DLPack or the CUDA array interface; it is read after the
    work that made it, and must not change before its result is there. Several threads may share a
    pipeline. It belongs to the process that created it: in a forked child, every use except
    :meth:`close` raises BackendError. So does every use after :meth:`close`.

    Args:
        bundle: Bundle of the engines.
        engines: Engine of each stage, by name. The pipeline closes them, also if it cannot be
            created. Without ``features`` and ``classify`` the pipeline can only propose.
        device: Device that runs the operations between the engines; the CPU by default. The
            pipeline closes it likewise.
        options: Options of the pipeline; the defaults if ``None``.

    Attributes:
        engines: Engine of each stage, by name.
        manifest: Manifest of the bundle, with the options in place of its own values.

    Raises:
        BundleError: An engine is missing or does not match the manifest.
    """

    def __init__(
        self,
        bundle: Bundle,
        engines: Mapping[str, Engine],
        *,
        device: Device | None = None,
        options: PipelineOptions | None = None,
    ) -> None:
        self.bundle = bundle
        self.options = options or PipelineOptions()
        self.engines = dict(engines)
        self.device: Device = device or CpuDevice()
        try:
            check_engines(bundle, engines)
            self.manifest: Manifest = self.options.applied_to(bundle.manifest)
            self._tiling = Tiling.of(self.options, self.manifest)
            setup = Setup(
                device=self.device,
                engines=self.engines,
                manifest=self.manifest,
                score_threshold=self.options.score_threshold,
                parallel_levels=self.options.parallel_levels,
            )
            self._slots = Slots(setup, self.options.max_in_flight)
        except BaseException:  # there is no pipeline that the caller could close
            self._release()
            raise
        # Arrays on the device may be collected, which frees a slot, while this thread holds it.
        self._lock = threading.RLock()
        self._process = os.getpid()
        self._closed = False

    @overload
    def __call__(self, images: Image) -> Detections: ...  # type: ignore[overload-overlap]  # a str is a sequence too

    @overload
    def __call__(self, images: Sequence[Image]) -> list[Detections]: ...

    @overload
    def __call__(self, images: Image, *, on_device: Literal[True]) -> DeviceDetections: ...

    def __call__(
        self, images: Image | Sequence[Image], *, on_device: bool = False
    ) -> Detections | list[Detections] | DeviceDetections:
        """Find the objects in an image, or in each image of a list.

        Args:
            images: An image, or a list of images.
            on_device: Whether the result stays in the memory of the GPU. This takes one image.

        Raises:
            OptionError: Results cannot stay on a device, since the pipeline runs on the CPU or cuts
                images into tiles.
            InputError: An image cannot be read, or is too long for the classifier, which only
                happens with a larger ``max_side`` than the bundle's or with full resolution.
            BundleError: The bundle has no classifier.
            BackendError: The pipeline is closed, or was loaded in another process.
        """
        if on_device:
            self.check_usable()
            check_classifies(self.bundle, self.engines)
            self._tiling.check_off()
            image = self._read(cast("Image", images))
            return self._occupy(self._begin(image, "detections"))
        if is_sequence(images):
            return list(self.stream(images))
        return next(self.stream([cast("Image", images)]))  # which rejects any other type

    def propose(self, image: Image) -> Proposals:
        """Find the objects in an image without classifying them, best first.

        Raises:
            InputError: The image cannot be read.
            BackendError: The pipeline is closed, or was loaded in another process.
        """
        return next(self._stream(iter([image]), "proposals", proposals_of))

    def find(self, image: Image) -> Findings:
        """Find the proposals and the detections of an image in one run.

        They are those of :meth:`propose` and of a call, which together would take twice as long.
        Errors are those of a call.
        """
        return next(self.stream([image], with_proposals=True))

    @overload
    def stream(self, images: Iterable[Image]) -> Iterator[Detections]: ...

    @overload
    def stream(
        self, images: Iterable[Image], *, with_proposals: Literal[True]
    ) -> Iterator[Findings]: ...

    def stream(
        self, images: Iterable[Image], *, with_proposals: bool = False
    ) -> Iterator[Detections] | Iterator[Findings]:
        """Find the objects in each image, in order, with several images in flight.

        At most ``options.max_in_flight`` images, or tiles of images, are in flight at a time; the
        next image is taken from the iterable only when there is room. An image may be changed as
        soon as the next one is taken. An error of the iterable or of an image is raised after the
        results of all images before it.

        Args:
            images: The images.
            with_proposals: Whether to return the proposals too, as :meth:`find` does.

        Raises:
            InputError: An image cannot be read or is too long for the classifier, or the argument
                is not an iterable of images.
            BundleError: The bundle has no classifier.
            BackendError: The pipeline is closed, or was loaded in another process.
        """
        self.check_usable()
        check_classifies(self.bundle, self.engines)
        if with_proposals:
            return self._stream(iterate(images), "findings", findings_of)
        return self._stream(iterate(images), "detections", detections_of)

    def video(self, source: VideoSource, *, policy: str | None = None) -> VideoResults:
        """Yield each frame of a video, a camera or a stream with the objects in it, in order.

        Arguments and errors are those of ``foveate.video.Frames``, which the source may also be,
        and of ``stream``.
        """
        from foveate.runtime.video import VideoResults  # noqa: PLC0415 - images do not need it

        self.check_usable()
        check_classifies(self.bundle, self.engines)
        return VideoResults(self, source, policy=policy)

    def close(self) -> None:
        """Release the engines and the device. Closing twice does nothing.

        Images that other threads wait for are finished first. In a forked child nothing is
        released, because everything belongs to the parent.
        """
        if os.getpid() != self._process:
            return
        with self._lock:
            first, self._closed = not self._closed, True
            self._slots.release()
            unused = not self._slots.in_use
        if first and unused:
            self._release()

    def __enter__(self) -> Pipeline:
        self.check_usable()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        what = "a pipeline can be neither pickled nor copied"
        raise BackendError(what, remedy="load it in each process, and share it between threads")

    def __repr__(self) -> str:
        return f"Pipeline({self.bundle.manifest.name!r}, device={self.device.name!r})"

    def _read(self, image: Image) -> UInt8Array | GpuImage:
        return self.device.accept(image) or as_image(cast("Array | str", image))

    def _begin(self, image: UInt8Array | GpuImage, kind: Kind) -> Slot:
        """Enqueue all steps for an image."""
        height, width = image.shape[:2]
        sizes = Sizes.of(height, width, self.manifest)
        if kind != "proposals":
            check_classifiable(sizes, self.bundle.manifest)
        with self._lock:
            self.check_usable()
            return self._slots.start(image, kind, sizes)

    def _stream(
        self, images: Iterator[Image], kind: Kind, result_of: Callable[[Manifest, Steps], Result]
    ) -> Iterator[Result]:
        tiled = Tiled[Result](map(self._read, images), self._tiling, self.manifest)

        def take() -> UInt8Array | GpuImage:
            self.check_usable()
            return tiled.take()

        def end(slot: Slot) -> Result:
            self.check_usable()
            return self._end(slot, result_of)

        begin = partial(self._begin, kind=kind)
        in_flight = InFlight(begin, end, self._drop, self._slots)
        return tiled.merged(in_flight.stream(take))

    def _drop(self, slots: Iterable[Slot]) -> None:
        """Wait for images whose results nobody collects any longer, and ignore their errors."""
        if os.getpid() == self._process:  # their streams run in that process only
            for slot in slots:
                with suppress(Exception):
                    self._end(slot, lambda *_: None)

    def _end(self, slot: Slot, result_of: Callable[[Manifest, Steps], Result]) -> Result:
        """Wait for an image, copy its result, and free its slot, unless its work failed."""
        try:
            slot.synchronize()
            result = result_of(self.manifest, slot.steps)
        except BaseException as error:
            self._discard(slot, error)
            raise
        self._finish(slot)
        return result

    def _occupy(self, slot: Slot) -> DeviceDetections:
        """Wait for an image, and return its result in the memory of the slot.

        The slot is free for the next image when the last array of the result is dropped.
        """
        owner = Occupied()
        try:
            slot.synchronize()
            result = device_detections_of(self.device, self.manifest, slot.steps, owner)
        except BaseException as error:
            self._discard(slot, error)
            raise
        weakref.finalize(owner, self._finish, slot).atexit = False
        return result

    def _discard(self, slot: Slot, error: BaseException) -> None:
        """Release a slot whose work failed, and its memory, although the error was raised in it."""
        slot.abandon()
        # Ended frames refer to the slot and to the error, a cycle that only the garbage collector
        # would find, long after many such slots have filled the memory.
        traceback.clear_frames(error.__traceback__)
        self._finish(None)

    def _finish(self, slot: Slot | None) -> None:
        """Count an image as done; the last one of a closed pipeline releases the engines."""
        if os.getpid() != self._process:
            return  # a result was dropped in a forked child, where the lock may be held forever
        with self._lock:
            self._slots.give_back(None if self._closed else slot)
            unused = self._closed and not self._slots.in_use
        if unused:
            self._release()

    def _release(self) -> None:
        for engine in self.engines.values():
            engine.close()
        self.device.close()

    def check_usable(self) -> None:
        """Raise BackendError if the pipeline is closed, or belongs to the parent of this process.

        No lock is taken, since one that another thread held during a fork is never released.
        """
        if os.getpid() != self._process:
            what = "the pipeline was loaded in another process, before fork"
            raise BackendError(
                what, remedy="load it in this process, or start processes with 'spawn'"
            )
        if self._closed:
            raise BackendError("the pipeline is closed", remedy="load it again")
