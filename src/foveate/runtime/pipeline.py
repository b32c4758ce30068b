# SPDX-License-Identifier: Apache-2.0
"""The pipeline: images in, detections out."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar, cast, overload

import numpy as np

from foveate.errors import BackendError, BundleError, InputError, OutOfMemoryError
from foveate.images.reading import as_image
from foveate.runtime.device_results import DeviceDetections, Occupied, device_detections_of
from foveate.runtime.devices import CpuDevice
from foveate.runtime.options import PipelineOptions
from foveate.runtime.results import detections_of, proposals_of
from foveate.runtime.setup import Setup
from foveate.runtime.signatures import check_engines
from foveate.runtime.sizes import Sizes, check_classifiable
from foveate.runtime.slots import Slots

if TYPE_CHECKING:
    from types import TracebackType

    from foveate.arrays import Array, UInt8Array
    from foveate.bundle import Bundle, Manifest
    from foveate.results.detections import Detections, Proposals
    from foveate.runtime.devices import Device
    from foveate.runtime.devices.interop import GpuImage, SupportsCudaArray, SupportsDlpack
    from foveate.runtime.engines import Engine
    from foveate.runtime.slot import Slot
    from foveate.runtime.steps import Steps

Result = TypeVar("Result")
Image: TypeAlias = "Array | str | os.PathLike[str] | SupportsDlpack | SupportsCudaArray"
_logger = logging.getLogger(__name__)
# Sequences of characters or bytes are not sequences of images.
_NO_SEQUENCES = (str, bytes, bytearray, memoryview)


class Pipeline:
    """A pipeline that finds, outlines and classifies the objects in images.

    An image is a file or an (H, W, 3) uint8 array in RGB order. On a GPU, the array may lie in its
    memory and belong to any library with DLPack or the CUDA array interface; it is read after the
    work that made it, and must not change before its result is there. Several threads may share a
    pipeline. It belongs to the process that created it: in a forked child, every use except
    :meth:`close` raises BackendError. So does every use after :meth:`close`.

    Args:
        bundle: Bundle of the engines.
        engines: Engine of each stage, by name. The pipeline takes ownership and closes them.
            Without ``features`` and ``classify`` the pipeline can only propose.
        device: Device that runs the operations between the engines; the CPU by default. The
            pipeline takes ownership and closes it.
        options: Options of the pipeline; the defaults if ``None``.

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
        check_engines(bundle, engines)
        self._device: Device = device or CpuDevice()
        self._manifest = self.options.applied_to(bundle.manifest)
        setup = Setup(
            device=self._device,
            engines=self.engines,
            manifest=self._manifest,
            score_threshold=self.options.score_threshold,
            parallel_levels=self.options.parallel_levels,
        )
        self._most_in_flight = self.options.max_in_flight
        self._slots = Slots(setup, self.options.max_in_flight)
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
            OptionError: The pipeline runs on the CPU, where results cannot stay on a device.
            InputError: An image cannot be read, or is too long for the classifier, which only
                happens with a larger ``max_side`` than the bundle's or with full resolution.
            BundleError: The bundle has no classifier.
            BackendError: The pipeline is closed, or was loaded in another process.
        """
        if on_device:
            self._check_usable()
            self._require_classify()
            image = self._read(cast("Image", images))
            return self._occupy(self._begin(image, classify=True))
        if isinstance(images, Sequence) and not isinstance(images, _NO_SEQUENCES):
            return list(self.stream(images))
        return next(self.stream([cast("Image", images)]))  # which rejects any other type

    def propose(self, image: Image) -> Proposals:
        """Find the objects in an image without classifying them, best first.

        Raises:
            InputError: The image cannot be read.
            BackendError: The pipeline is closed, or was loaded in another process.
        """
        self._check_usable()
        return self._end(self._begin(self._read(image), classify=False), proposals_of)

    def stream(self, images: Iterable[Image]) -> Iterator[Detections]:
        """Find the objects in each image, in order, with several images in flight.

        At most ``options.max_in_flight`` images are in memory at a time; the next one is taken from
        the iterable only when there is room. An image may be changed as soon as the next one is
        taken. An error of the iterable or of an image is raised after the results of all images
        before it.

        Raises:
            InputError: An image cannot be read or is too long for the classifier, or the argument
                is not an iterable of images.
            BundleError: The bundle has no classifier.
            BackendError: The pipeline is closed, or was loaded in another process.
        """
        self._check_usable()
        self._require_classify()
        single = isinstance(images, np.ndarray) and images.ndim != 4
        no_images = (*_NO_SEQUENCES, os.PathLike, Mapping)
        if single or isinstance(images, no_images) or not isinstance(images, Iterable):
            raise InputError(
                f"stream needs an iterable of images, found {type(images).__name__}",
                remedy="pass a list of images, or a generator of the frames of a video",
            )
        return self._stream(iter(images))

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
        self._check_usable()
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

    def _read(self, image: Image) -> UInt8Array | GpuImage:
        return self._device.accept(image) or as_image(cast("Array | str", image))

    def _begin(self, image: UInt8Array | GpuImage, *, classify: bool) -> Slot:
        """Enqueue all steps for an image."""
        height, width = image.shape[:2]
        sizes = Sizes.of(height, width, self._manifest)
        if classify:
            check_classifiable(sizes, self.bundle.manifest)
        with self._lock:
            self._check_usable()
            slot = self._slots.take(sizes)
            try:
                slot.start(image, classify=classify)
            except BaseException:  # an interruption too, or the engines would never be released
                self._slots.give_back(None)
                raise
        return slot

    def _stream(self, images: Iterator[Image]) -> Iterator[Detections]:
        flying: deque[Slot] = deque()
        try:
            while True:
                self._check_usable()
                try:
                    image = self._read(next(images))
                    yield from self._start(image, flying)
                except StopIteration:
                    break
                except Exception:  # raised after the results of the images before it
                    while flying:
                        yield self._detections(flying)
                    raise
                if len(flying) >= self._most_in_flight:
                    yield self._detections(flying)
            while flying:
                yield self._detections(flying)
        finally:
            self._drop(flying)

    def _start(self, image: UInt8Array | GpuImage, flying: deque[Slot]) -> Iterator[Detections]:
        """Enqueue all steps for an image, with fewer images in flight if memory does not suffice."""
        while True:
            try:
                flying.append(self._begin(image, classify=True))
            except OutOfMemoryError as error:
                if not flying:
                    raise
                if len(flying) < self._most_in_flight:
                    self._most_in_flight = len(flying)
                    _logger.warning("max_in_flight is now %d: %s", len(flying), error.what)
                yield self._detections(flying)
            else:
                return

    def _detections(self, flying: deque[Slot]) -> Detections:
        self._check_usable()
        return self._end(flying.popleft(), detections_of)

    def _drop(self, flying: Iterable[Slot]) -> None:
        """Wait for images whose results nobody collects any longer, and ignore their errors."""
        if os.getpid() == self._process:  # their streams run in that process only
            for slot in flying:
                with suppress(Exception):
                    self._end(slot, lambda *_: None)

    def _end(self, slot: Slot, result_of: Callable[[Manifest, Steps], Result]) -> Result:
        """Wait for an image, copy its result, and free its slot for the next image.

        A slot whose work failed is not used again.
        """
        try:
            slot.synchronize()
            result = result_of(self._manifest, slot.steps)
        except BaseException:
            slot.abandon()
            self._finish(None)
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
            result = device_detections_of(self._device, self._manifest, slot.steps, owner)
        except BaseException:
            slot.abandon()
            self._finish(None)
            raise
        weakref.finalize(owner, self._finish, slot).atexit = False
        return result

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
        self._device.close()

    def _check_usable(self) -> None:
        """Check the pipeline before any lock is taken; a fork may have left the lock held."""
        if os.getpid() != self._process:
            raise BackendError(
                "the pipeline was loaded in another process, before fork",
                remedy="load it in this process, or start processes with 'spawn'",
            )
        if self._closed:
            raise BackendError("the pipeline is closed", remedy="load it again")

    def _require_classify(self) -> None:
        if "classify" not in self.engines:
            raise BundleError(
                "the bundle only proposes: it has no stage 'classify'",
                file=self.bundle.root,
                remedy="use Pipeline.propose, or a bundle exported with a classifier",
            )
