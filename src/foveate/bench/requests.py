# SPDX-License-Identifier: Apache-2.0
"""The requests for the images of a benchmark, and the answers that they must get."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from foveate.bench.images import read_images
from foveate.errors import InputError, ServerError
from foveate.images.reading import read_image
from foveate.protocol.tensors import BINARY_EXTENSION, Message, TensorMetadata, encode_message

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from foveate.arrays import Array, UInt8Array
    from foveate.bench.record import Input
    from foveate.protocol.client import ModelMetadata, ServerMetadata

# Inputs for an image, the preferred one first: the bytes of its file, or its pixels.
ENCODED, IMAGE = "encoded", "image"
# Masks as pixels are not requested, except from a model that has no others.
_OUTPUTS = ("boxes", "scores", "labels", "rle")


@dataclass(frozen=True, kw_only=True)
class RequestForm:
    """What is sent for an image, and which outputs are requested.

    Args:
        input: The input that takes the image.
        outputs: Names of the outputs.
        binary: Whether tensors are sent as bytes.
    """

    input: TensorMetadata
    outputs: tuple[str, ...]
    binary: bool

    @classmethod
    def of(cls, server: ServerMetadata, model: ModelMetadata, wanted: str | None) -> RequestForm:
        """Return the form that a model takes; ``wanted`` names its input, None prefers files.

        Raises:
            ServerError: The model has no input for an image, or no output of objects.
        """
        binary = BINARY_EXTENSION in server.extensions
        inputs = {one.name: one for one in model.inputs}
        # A JSON document cannot contain the bytes of a file, since they are not text.
        usable = [name for name in (ENCODED, IMAGE) if name == IMAGE or binary]
        names = [name for name in usable if name in inputs and wanted in (None, name)]
        if not names:
            expected = f"one named {wanted!r:.60}" if wanted else " or ".join(map(repr, usable))
            raise _unsuitable(model, "inputs", model.inputs, expected)
        outputs = {one.name for one in model.outputs}
        requested = tuple(name for name in _OUTPUTS if name in outputs)
        if "masks" in outputs and "rle" not in outputs:
            requested += ("masks",)
        if "boxes" not in requested:
            raise _unsuitable(model, "outputs", model.outputs, "'boxes'")
        return cls(input=inputs[names[0]], outputs=requested, binary=binary)

    def for_file(self, file: Path) -> Message:
        """Return the request for an image file.

        Raises:
            InputError: The file cannot be read.
            ServerError: The input has another shape or data type.
        """
        if self.input.name == IMAGE:
            return self.for_pixels(file, read_image(file))
        try:
            content = file.read_bytes()
        except OSError as error:
            what = f"the file cannot be read ({error.strerror or error})"
            raise InputError(what, file=file, remedy="check the path") from error
        return self._encode(file, np.array([content], np.object_), "BYTES")

    def for_pixels(self, file: Path, image: UInt8Array) -> Message:
        """Return the request for the pixels of an image, (H, W, 3) uint8 RGB."""
        return self._encode(file, image, "UINT8")

    def check(self, outputs: Mapping[str, Array]) -> None:
        """Check that an answer has the requested outputs, with an entry for each object.

        Raises:
            ServerError: It does not.
        """
        shapes = {name: outputs[name].shape for name in self.outputs if name in outputs}
        counts = {shape[:1] for shape in shapes.values()}
        if len(shapes) < len(self.outputs) or len(counts) != 1 or () in counts:
            raise ServerError(
                f"the server answered with outputs of the shapes {shapes}, expected "
                f"{', '.join(self.outputs)} with one entry per object",
                remedy="look into the server's log",
            )

    def _encode(self, file: Path, content: Array, datatype: str) -> Message:
        if self.input.datatype != datatype or not self.input.fits(content.shape):
            raise ServerError(
                f"the input {self.input.name!r} takes {self.input.datatype} of shape "
                f"{list(self.input.shape)}, and the image has {datatype} of {list(content.shape)}",
                file=file,
                remedy="pass images of that size, or another --model",
            )
        document = {
            "outputs": [
                {"name": name, "parameters": {"binary_data": self.binary}} for name in self.outputs
            ]
        }
        tensors = {self.input.name: content}
        return encode_message(document, "inputs", tensors, binary=tensors if self.binary else ())


@dataclass(frozen=True, kw_only=True)
class Requests:
    """The requests for the images, which are sent in turns.

    Args:
        form: What is sent for an image.
        files: Files of the images.
        inputs: Their descriptions.
        messages: Their requests; empty if they are made in the run.
    """

    form: RequestForm
    files: tuple[Path, ...]
    inputs: tuple[Input, ...]
    messages: tuple[Message, ...]

    @classmethod
    def of(cls, form: RequestForm, files: Sequence[Path], *, decoding: bool) -> Requests:
        """Return the requests for some files; with ``decoding`` they are made again in the run.

        Raises:
            InputError: An image cannot be read, or all together are too large to be kept.
            ServerError: The model does not take an image of that size.
        """
        keep_pixels = form.input.name == IMAGE and not decoding
        images = read_images(files, None, decoding=not keep_pixels)
        if keep_pixels:
            messages = tuple(map(form.for_pixels, images.files, images.arrays))
        else:
            messages = tuple(map(form.for_file, images.files))
        return cls(
            form=form,
            files=images.files,
            inputs=images.inputs,
            messages=() if decoding else messages,
        )


def _unsuitable(
    model: ModelMetadata, what: str, tensors: Sequence[TensorMetadata], expected: str
) -> ServerError:
    found = ", ".join(repr(one.name) for one in tensors) or "none"
    return ServerError(
        f"the model {model.name!r:.60} has the {what} {found}; expected {expected}",
        remedy="pass the name of a model of Foveate: --model NAME",
    )
