# SPDX-License-Identifier: Apache-2.0
"""The Open Inference Protocol, spoken by the vendor's client and by ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from tests.samples.serving import document, encoded, send, server_thread, square

import foveate
from foveate.protocol.tensors import encode_message
from foveate.serve import ServeOptions, create_app

IMAGE = square()
FILE = encoded(IMAGE)
INFER = "/v2/models/foveate/infer"


@pytest.fixture(scope="module")
def server(contrast_bundle: Path) -> Iterator[str]:
    options = ServeOptions()
    with server_thread(create_app(contrast_bundle, options), options) as url:
        yield url


@pytest.fixture(scope="module")
def found(contrast_bundle: Path) -> Iterator[foveate.Detections]:
    with foveate.load(contrast_bundle) as pipeline:
        yield pipeline(IMAGE)


@pytest.fixture
def client(server: str) -> Iterator[Any]:
    http = pytest.importorskip(
        "tritonclient.http", reason="needs the packages tritonclient and geventhttpclient"
    )
    with closing(http.InferenceServerClient(server.removeprefix("http://"))) as client:
        yield client


def inputs(*, binary: bool = True, name: str = "image") -> list[Any]:
    from tritonclient import http

    if name == "encoded":
        tensor = http.InferInput("encoded", [1], "BYTES")
        tensor.set_data_from_numpy(np.array([FILE], np.object_))
    else:
        tensor = http.InferInput("image", list(IMAGE.shape), "UINT8")
        tensor.set_data_from_numpy(IMAGE, binary_data=binary)
    return [tensor]


def test_the_client_of_the_vendor_reads_the_metadata(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("foveate")
    assert client.is_model_ready("foveate", "1")
    assert not client.is_model_ready("foveate", "2")
    assert not client.is_model_ready("other")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    model = client.get_model_metadata("foveate")
    assert [(one["name"], one["datatype"]) for one in model["inputs"]] == [
        ("image", "UINT8"),
        ("encoded", "BYTES"),
    ]
    names = [one["name"] for one in model["outputs"]]
    assert names == ["boxes", "scores", "labels", "masks", "rle"]


@pytest.mark.parametrize(("name", "binary"), [("image", True), ("image", False), ("encoded", True)])
def test_the_client_of_the_vendor_gets_the_results(
    client: Any, found: foveate.Detections, name: str, binary: bool
) -> None:
    answer = client.infer("foveate", inputs(binary=binary, name=name), request_id="mine")
    np.testing.assert_array_equal(answer.as_numpy("boxes"), found.boxes)
    np.testing.assert_array_equal(answer.as_numpy("scores"), found.scores)
    np.testing.assert_array_equal(answer.as_numpy("labels"), found.labels)
    assert [json.loads(one) for one in answer.as_numpy("rle")] == found.masks.rle()
    assert answer.as_numpy("masks") is None  # sent only if they are named
    assert answer.get_response()["id"] == "mine"


def test_masks_are_sent_if_they_are_named(client: Any, found: foveate.Detections) -> None:
    from tritonclient import http

    for binary in (True, False):
        outputs = [http.InferRequestedOutput("masks", binary_data=binary)]
        answer = client.infer("foveate", inputs(), model_version="1", outputs=outputs)
        np.testing.assert_array_equal(answer.as_numpy("masks"), np.asarray(found.masks))
        assert answer.as_numpy("boxes") is None


def test_parameters_of_a_request_select_results(client: Any) -> None:
    answer = client.infer("foveate", inputs(), parameters={"max_detections": 1})
    assert answer.as_numpy("boxes").shape == (1, 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parameters": {"top_k": 3}}, "expected the parameters score_threshold, max_detections"),
        ({"parameters": []}, "expected parameters that are a JSON object, found []"),
        ({"parameters": {"score_threshold": True}}, "expected a number from 0 up to 1 as score_"),
        ({"parameters": {"max_detections": 2.5}}, "expected an integer of 1 or more as max_d"),
        ({"outputs": [{"name": "depth"}]}, "expected outputs of boxes, scores, labels, masks, rle"),
        (
            {"outputs": [{"name": "scores", "parameters": {"classification": 2}}]},
            "expected outputs with the parameter binary_data, found 'classification'",
        ),
        ({"outputs": {}}, "expected outputs that are a list of JSON objects, found {}"),
        ({"inputs": []}, "expected one input, 'image' or 'encoded', found no input"),
        ({"inputs": {}}, "the message must be a JSON object with a list 'inputs': correct the"),
    ],
)
def test_a_wrong_request_is_named_in_the_form_of_the_protocol(
    server: str, changes: dict[str, Any], message: str
) -> None:
    pixels = {"name": "image", "datatype": "UINT8", "shape": [2, 2, 3], "data": [7] * 12}
    body = json.dumps({"inputs": [pixels], **changes}).encode()
    answer = send(server, INFER, body)
    assert answer.status == 400
    assert document(answer).keys() == {"error"}
    assert document(answer)["error"].startswith(message)


@pytest.mark.parametrize("outputs", [None, []])
def test_fields_that_a_client_leaves_empty_are_those_it_leaves_out(
    server: str, found: foveate.Detections, outputs: list[Any] | None
) -> None:
    pixels = {"name": "image", "datatype": "UINT8", "shape": IMAGE.shape, "parameters": None}
    empty = {"id": None, "parameters": None, "outputs": outputs}
    body = json.dumps({"inputs": [{**pixels, "data": IMAGE.ravel().tolist()}], **empty}).encode()
    answer = document(send(server, INFER, body))
    by_name = {one["name"]: one["data"] for one in answer["outputs"]}
    assert list(by_name) == ["boxes", "scores", "labels", "rle"]
    np.testing.assert_array_equal(np.float32(by_name["scores"]), found.scores)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("image", np.zeros((4, 4), np.uint8), "'image' of UINT8 and shape [-1, -1, 3], found UINT"),
        ("image", np.zeros((4, 4, 3), np.float32), ", 3], found FP32 of shape [4, 4, 3]: correct"),
        ("image", np.array([b"a"], np.object_), ", 3], found BYTES of shape [1]: correct the"),
        ("image", np.zeros((0, 4, 3), np.uint8), "an image with at least one pixel, found the "),
        ("encoded", np.array([b"no image"], np.object_), "is not an image that can be decoded"),
        ("encoded", np.zeros(1, np.uint8), "'encoded' of BYTES and shape [1], found UINT8"),
        ("picture", np.zeros((4, 4, 3), np.uint8), "one input, 'image' or 'encoded', found 'pict"),
    ],
)
def test_a_wrong_tensor_is_named(server: str, name: str, array: np.ndarray, message: str) -> None:
    made = encode_message({}, "inputs", {name: array}, binary=(name,))
    answer = send(server, INFER, made.body, made.headers)
    assert answer.status == 400
    assert message in document(answer)["error"]


def test_a_bundle_that_only_proposes_has_no_labels(proposing_bundle: Path) -> None:
    options = ServeOptions(model="finder")
    with server_thread(create_app(proposing_bundle, options), options) as url:
        model = document(send(url, "/v2/models/finder"))
        assert [one["name"] for one in model["outputs"]] == ["boxes", "scores", "masks", "rle"]
        made = encode_message({}, "inputs", {"image": IMAGE}, binary=("image",))
        answer = send(url, "/v2/models/finder/infer", made.body, made.headers)
        assert {one["name"] for one in document(answer)["outputs"]} == {"boxes", "scores", "rle"}
        refused = send(url, "/v1/objects", FILE)
        assert refused.status == 404
        assert document(refused)["error"]["remedy"] == "send the image to /v1/proposals"
