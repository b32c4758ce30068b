# SPDX-License-Identifier: Apache-2.0
"""Messages of the Open Inference Protocol: what is written is read, and nothing else is."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest

from foveate.protocol.tensors import Message, MessageError, decode_message, encode_message

TYPES = ("?", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8")


def tensors() -> dict[str, np.ndarray]:
    texts = np.empty((2, 1), np.object_)
    texts[:, 0] = [b"", "größer".encode()]
    numbers = {kind: np.arange(6).reshape(2, 3).astype(kind) for kind in TYPES}
    return {**numbers, "texts": texts, "none": np.zeros((0, 4), np.float32)}


def decoded(message: Message) -> dict[str, np.ndarray]:
    length = message.headers.get("Inference-Header-Content-Length")
    return decode_message(message.body, length, "inputs")[1]


@pytest.mark.parametrize("binary", [True, False])
def test_every_type_survives_as_bytes_and_as_json(binary: bool) -> None:
    given = tensors()
    message = encode_message({}, "inputs", given, binary=given if binary else ())
    assert (message.document_bytes is not None) == binary
    found = decoded(message)
    assert list(found) == list(given)
    for name, array in given.items():
        assert found[name].dtype == array.dtype, name
        np.testing.assert_array_equal(found[name], array)


def test_bytes_and_json_stand_in_one_message() -> None:
    given = tensors()
    found = decoded(encode_message({"id": "7"}, "inputs", given, binary={"f4", "texts"}))
    np.testing.assert_array_equal(found["f4"], given["f4"])
    np.testing.assert_array_equal(found["u1"], given["u1"])
    assert found["texts"].tolist() == [[b""], ["größer".encode()]]


def test_the_form_is_that_of_the_specification() -> None:
    """Its example of a binary tensor, and elements of BYTES with lengths of four bytes."""
    array = np.array([[1, 2], [3, 4]], np.float32)
    texts = np.array([b"ab", b"c"], np.object_)
    message = encode_message({}, "inputs", {"a": array, "b": texts}, binary=("a", "b"))
    assert message.document_bytes is not None
    head, tail = message.body[: message.document_bytes], message.body[message.document_bytes :]
    assert json.loads(head)["inputs"] == [
        {"name": "a", "shape": [2, 2], "datatype": "FP32", "parameters": {"binary_data_size": 16}},
        {"name": "b", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": 11}},
    ]
    assert tail == struct.pack("<4f", 1, 2, 3, 4) + b"\x02\0\0\0ab\x01\0\0\0c"


def test_nested_data_are_read() -> None:
    entry = {"name": "a", "shape": [2, 2], "datatype": "FP32", "data": [[1, 2.5], [3, 4]]}
    body = json.dumps({"inputs": [entry]}).encode()
    assert decode_message(body, None, "inputs")[1]["a"].tolist() == [[1, 2.5], [3, 4]]


ENTRY = {"name": "a", "shape": [2], "datatype": "UINT8"}


def entry_of(**changes: object) -> bytes:
    return json.dumps({"inputs": [{**ENTRY, **changes}]}).encode()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"\xff", "is not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[]", "must be a JSON object with a list 'inputs'"),
        (b'{"inputs": 3}', "must be a JSON object with a list 'inputs'"),
        (b'{"inputs": [3]}', "a tensor must be a JSON object with a name"),
        (entry_of(datatype="UINT7"), "has the data type 'UINT7', expected BOOL, UINT8"),
        (entry_of(shape=[-1]), r"has the shape \[-1\]"),
        (entry_of(shape=[True]), r"has the shape \[True\]"),
        (entry_of(shape=2), "has the shape 2"),
        (entry_of(), r"has no data of UINT8 and shape \[2\]"),
        (entry_of(data=[1]), r"has no data of UINT8 and shape \[2\]"),
        (entry_of(data=[1, 256]), r"has no data of UINT8 and shape \[2\]"),
        (entry_of(data=[1, 0.5]), r"has no data of UINT8 and shape \[2\]"),
        (entry_of(data=["1", "2"]), r"has no data of UINT8 and shape \[2\]"),
        (entry_of(data=[[1, 2], [3]]), r"has no data of UINT8 and shape \[2\]"),
        (entry_of(data=[1, None]), r"has no data of UINT8 and shape \[2\]"),
        (entry_of(datatype="BYTES", data=["a", 1]), r"has no data of BYTES and shape \[2\]"),
        *(
            (entry_of(datatype=one, data=data), rf"has no data of {one} and shape \[2\]")
            for one in ("UINT8", "UINT64", "INT8", "INT64", "FP16", "FP32", "FP64")
            for data in ([True, False], [True, 2], [[True], [2]])
        ),
        (entry_of(datatype="BOOL", data=[True, 1]), r"has no data of BOOL and shape \[2\]"),
        (entry_of(datatype="BOOL", data=[0, 1]), r"has no data of BOOL and shape \[2\]"),
        (entry_of(datatype="FP16", data=[1, 70_000]), r"has no data of FP16 and shape \[2\]"),
        (entry_of(datatype="FP32", data=[1, 1e39]), r"has no data of FP32 and shape \[2\]"),
        (entry_of(shape=[2**62, 2**62], data=[]), r"has the shape \[4611686018427387904, "),
        (entry_of(shape=[0, 10**30], data=[]), r"has the shape \[0, 1000000"),
        (entry_of(shape=[0, 2**46, 8], data=[]), r"has the shape \[0, 70368744177664, 8\]"),
        (entry_of(shape=[1] * 33, data=[1]), r"has the shape \[1, 1, "),
        (entry_of(data=[1, float("inf")]), r"has no data of UINT8 and shape \[2\]"),
        (entry_of(parameters={"binary_data_size": 2}), "binary_data_size of 2, and 0 bytes are"),
        (entry_of(parameters={"binary_data_size": -2}), "binary_data_size of -2, and 0 bytes are"),
        (
            json.dumps({"inputs": [{**ENTRY, "data": [1, 2]}] * 2}).encode(),
            "the tensor 'a' occurs twice",
        ),
    ],
)
def test_a_bad_document_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(MessageError, match=message):
        decode_message(body, None, "inputs")


@pytest.mark.parametrize(
    ("datatype", "tail", "message"),
    [
        ("UINT8", b"abc", r"of UINT8 and shape \[2\] needs 2 bytes, found 3"),
        ("FP32", b"abc", r"of FP32 and shape \[2\] needs 8 bytes, found 3"),
        ("BYTES", b"\x01\0\0\0a", r"of shape \[2\] needs 2 elements, found 1"),
        ("BYTES", b"\x01\0\0\0a\x09\0\0\0b", "ends within an element"),
        ("BYTES", b"\x01\0\0\0a\x09\0", "ends within an element"),
    ],
)
def test_bytes_that_do_not_fit_are_refused(datatype: str, tail: bytes, message: str) -> None:
    head = entry_of(datatype=datatype, parameters={"binary_data_size": len(tail)})
    with pytest.raises(MessageError, match=message):
        decode_message(head + tail, str(len(head)), "inputs")


def test_bytes_after_the_last_tensor_are_refused() -> None:
    head = entry_of(parameters={"binary_data_size": 2})
    with pytest.raises(MessageError, match="has 1 bytes after its last tensor"):
        decode_message(head + b"abc", str(len(head)), "inputs")


@pytest.mark.parametrize("length", ["-1", "+1", " 1", "1e3", "٣", "", "9" * 400])
def test_a_bad_length_of_the_document_is_refused(length: str) -> None:
    with pytest.raises(MessageError, match="Inference-Header-Content-Length must be a number up"):
        decode_message(entry_of(data=[1, 2]), length, "inputs")
