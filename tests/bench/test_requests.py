# SPDX-License-Identifier: Apache-2.0
"""What a benchmark sends to a server for an image, by what the server says about itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.samples.paths import CAT

from foveate.bench.requests import RequestForm, Requests
from foveate.bench.server_session import _is_here
from foveate.errors import ServerError
from foveate.images.reading import read_image
from foveate.protocol.client import ModelMetadata, ServerMetadata
from foveate.protocol.tensors import BINARY_EXTENSION, TensorMetadata, decode_message

BOTH = ("image", "encoded")


def form_of(
    *,
    binary: bool = True,
    inputs: tuple[str, ...] = BOTH,
    outputs: tuple[str, ...] = ("boxes", "scores", "rle"),
    wanted: str | None = None,
) -> RequestForm:
    extensions = (BINARY_EXTENSION,) if binary else ()
    given = {
        "image": TensorMetadata(name="image", datatype="UINT8", shape=(-1, -1, 3)),
        "encoded": TensorMetadata(name="encoded", datatype="BYTES", shape=(1,)),
    }
    return RequestForm.of(
        ServerMetadata(name="samples", version="1", extensions=extensions),
        ModelMetadata(
            name="finder",
            platform="",
            inputs=tuple(given[name] for name in inputs),
            outputs=tuple(
                TensorMetadata(name=name, datatype="FP32", shape=(-1,)) for name in outputs
            ),
        ),
        wanted,
    )


def test_files_are_preferred_to_pixels_unless_the_server_takes_text_only() -> None:
    assert form_of().input.name == "encoded"
    assert form_of(wanted="image").input.name == "image"
    assert form_of(inputs=("image",)).input.name == "image"
    text = form_of(binary=False)
    assert (text.input.name, text.binary) == ("image", False)
    with pytest.raises(ServerError, match="has the inputs 'encoded'; expected 'image'"):
        form_of(binary=False, inputs=("encoded",))


def test_masks_as_pixels_are_requested_from_a_model_without_codes_only() -> None:
    assert form_of(outputs=("masks", "boxes", "rle")).outputs == ("boxes", "rle")
    assert form_of(outputs=("masks", "boxes", "labels")).outputs == ("boxes", "labels", "masks")
    with pytest.raises(ServerError, match="has the outputs 'scores'; expected 'boxes'"):
        form_of(outputs=("scores",))


@pytest.mark.parametrize("binary", [True, False])
def test_a_request_has_the_pixels_and_asks_for_answers_in_the_same_way(binary: bool) -> None:
    image = np.arange(2 * 4 * 3, dtype=np.uint8).reshape(2, 4, 3)
    message = form_of(binary=binary, wanted="image").for_pixels(Path("a.png"), image)
    document = json.loads(message.body[: message.document_bytes])
    assert [one["name"] for one in document["outputs"]] == ["boxes", "scores", "rle"]
    assert {one["parameters"]["binary_data"] for one in document["outputs"]} == {binary}
    length = None if message.document_bytes is None else str(message.document_bytes)
    _, tensors = decode_message(message.body, length, "inputs")
    assert np.array_equal(tensors["image"], image)
    assert (message.document_bytes is not None) == binary


def test_an_answer_has_an_entry_per_object_in_each_output() -> None:
    form = form_of()
    whole = {"boxes": np.zeros((3, 4)), "scores": np.zeros(3), "rle": np.zeros(3)}
    form.check(whole)
    for change in ({"scores": np.zeros(2)}, {"scores": np.zeros(())}):
        with pytest.raises(ServerError, match="expected boxes, scores, rle with one entry per obj"):
            form.check(whole | change)
    with pytest.raises(ServerError, match="outputs of the shapes"):
        form.check({"boxes": np.zeros((3, 4)), "scores": np.zeros(3)})


@pytest.mark.parametrize(("decoding", "kept"), [(False, 1), (True, 0)])
def test_requests_are_made_in_the_run_if_it_includes_the_decoding(
    decoding: bool, kept: int
) -> None:
    requests = Requests.of(form_of(), [CAT], decoding=decoding)
    assert len(requests.messages) == kept
    assert requests.files == (CAT,)
    (described,) = requests.inputs
    assert (described.height, described.width) == read_image(CAT).shape[:2]
    assert (described.name, described.windows) == (CAT.name, None)
    assert all(CAT.read_bytes() in one.body for one in requests.messages)


@pytest.mark.parametrize(
    ("host", "here"),
    [
        *(("localhost", True), ("127.0.0.2", True), ("::1", True)),
        *(("192.168.0.7", False), ("10.0.0.1", False), ("example.org", False)),
    ],
)
def test_a_server_is_here_by_its_loopback_address_alone(host: str, here: bool) -> None:
    assert _is_here(host) == here
