# SPDX-License-Identifier: Apache-2.0
"""The reader of Torch7 files: values, shared storages, and refused content."""

from __future__ import annotations

import dataclasses
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchfile
from tests.samples.torch7.compare import assert_equals_torchfile
from tests.samples.torch7.writer import (
    T7Function,
    T7Object,
    T7Storage,
    T7Tensor,
    T7Writer,
    flattened,
    tensor,
    write_torch7,
)

from foveate.errors import ModelError
from foveate.importing.torch7.reader import MAX_DEPTH, read_torch7
from foveate.importing.torch7.values import Function, Node, Table, Tensor, Value

CPU_KINDS = ("Byte", "Char", "Short", "Int", "Long", "Half", "Float", "Double")
CUDA_KINDS = ("Cuda", *(f"Cuda{kind}" for kind in CPU_KINDS if kind != "Float"))
# torchfile 0.1.0 has no reader for these.
UNKNOWN_TO_TORCHFILE = {"Half", "CudaHalf", "CudaLong"}


def read(tmp_path: Path, value: Any, **options: Any) -> Value:
    return read_torch7(write_torch7(tmp_path / "file.t7", value, **options))


def read_table(tmp_path: Path, value: Any, **options: Any) -> Table:
    table = read(tmp_path, value, **options)
    assert isinstance(table, Table)
    return table


def view_of(value: Value) -> np.ndarray:
    assert isinstance(value, Tensor)
    return value.view()


@pytest.mark.parametrize("value", [None, True, False, 3, -1, 0.5, 1e300, "", "text", "\udcff\0"])
def test_a_value_comes_back(tmp_path: Path, value: Any) -> None:
    found = read(tmp_path, value)
    assert found == value
    assert type(found) is type(value) or value == 1e300


def test_a_table_keeps_its_keys(tmp_path: Path) -> None:
    table = read_table(tmp_path, {"a": 1, 0: "zero", 1: "one", 2: [True], 2.5: "half"})
    assert list(table.entries) == ["a", 0, 1, 2, 2.5]
    assert table.sequence()[0] == "one"
    inner = table[2]
    assert isinstance(inner, Table)
    assert inner.sequence() == [True]
    assert table["absent"] is None


def test_a_table_may_contain_itself(tmp_path: Path) -> None:
    itself: dict[Any, Any] = {}
    itself["me"] = itself
    table = read_table(tmp_path, itself)
    assert table["me"] is table


@pytest.mark.parametrize("kind", [*CPU_KINDS, *CUDA_KINDS])
def test_a_tensor_of_every_type_comes_back(tmp_path: Path, kind: str) -> None:
    values = np.array([[1, 2, 3], [4, 5, 127]])
    file = write_torch7(tmp_path / "file.t7", tensor(values, kind))
    found = view_of(read_torch7(file))
    assert found.tolist() == values.tolist()
    assert not found.flags.writeable
    if kind not in UNKNOWN_TO_TORCHFILE:
        assert found.dtype == torchfile.load(file).dtype


def test_a_tensor_is_a_strided_view_of_its_storage(tmp_path: Path) -> None:
    storage = T7Storage(np.arange(20, dtype=np.float32))
    transposed = T7Tensor(storage, (3, 2), (1, 3), 4)
    expected = np.arange(4, 10).reshape(2, 3).T
    np.testing.assert_array_equal(view_of(read(tmp_path, transposed)), expected)


def test_an_empty_tensor_has_no_elements(tmp_path: Path) -> None:
    for empty in (T7Tensor(None, (), ()), T7Tensor(T7Storage(np.zeros(3)), (), ())):
        found = read(tmp_path, empty)
        assert view_of(found).size == 0


def test_flattened_parameters_share_one_storage(tmp_path: Path) -> None:
    arrays = [np.arange(6.0).reshape(2, 3), np.arange(4.0)]
    first, second = read_table(tmp_path, flattened(arrays, "Cuda")).sequence()
    assert isinstance(first, Tensor)
    assert isinstance(second, Tensor)
    assert first.storage is second.storage
    np.testing.assert_array_equal(first.view(), arrays[0])
    np.testing.assert_array_equal(second.view(), arrays[1])


def test_storages_stay_in_the_file(tmp_path: Path) -> None:
    big = read(tmp_path, tensor(np.zeros(1_000_000, np.float32)))
    assert not view_of(big).flags.owndata


@pytest.mark.parametrize("versions", [True, False])
def test_an_object_is_a_named_node(tmp_path: Path, versions: bool) -> None:
    shared = T7Object("nn.ReLU", {"inplace": True}, version=2)
    root = T7Object("nn.Sequential", {"modules": [shared, shared]})
    node = read(tmp_path, root, versions=versions)
    assert isinstance(node, Node)
    modules = node["modules"]
    assert isinstance(modules, Table)
    first, second = modules.sequence()
    assert isinstance(first, Node)
    assert first is second
    assert (first.name, first.version) == ("nn.ReLU", 2 if versions else 0)
    assert first["inplace"] is True


def test_a_parallel_table_has_its_gpus_before_its_fields(tmp_path: Path) -> None:
    name, fields = "nn.DataParallelTable", {"dimension": 1}
    node = read(tmp_path, T7Object(name, fields, version=3, before=([1, 2],)))
    assert isinstance(node, Node)
    assert node["dimension"] == 1
    node = read(tmp_path, T7Object(name, fields, version=1))
    assert isinstance(node, Node)
    assert node["dimension"] == 1


@pytest.mark.parametrize("tag", [6, 7, 8])
def test_a_function_is_skipped_and_its_upvalues_are_read(tmp_path: Path, tag: int) -> None:
    upvalue = tensor(np.arange(3.0))
    function = T7Function(b"\x1bLJ" + bytes(100), [{"name": "x", "value": upvalue}], tag)
    again = [function, upvalue] if tag == 6 else [function, upvalue, function]
    table = read_table(tmp_path, again)
    assert isinstance(table[1], Function)
    # An index of an upvalue is known afterwards.
    np.testing.assert_array_equal(view_of(table[2]), np.arange(3.0))
    if tag != 6:
        assert table[3] is table[1]


def test_files_of_machines_with_short_longs_are_read(tmp_path: Path) -> None:
    values = np.array([[1, -2], [3, 4]])
    table = read_table(tmp_path, [tensor(values, "Long"), tensor(values)], long_size=4)
    assert [view_of(item).tolist() for item in table.sequence()] == [values.tolist()] * 2


def test_torchfile_reads_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = flattened([rng.normal(size=(3, 2, 5, 5)), rng.normal(size=3)], "Cuda")
    module = T7Object("nn.SpatialConvolution", {"weight": weights[0], "bias": weights[1], "kW": 5})
    root = {
        "model": T7Object("nn.Sequential", {"modules": [module, module], "train": False}),
        "function": T7Function(upvalues=[{"name": "a", "value": module}]),
        "types": [tensor(rng.integers(0, 99, 4), kind) for kind in ("Byte", "Long", "Double")],
        "numbers": {0: 0.25, 1: "one", "text": "\udcfe"},
    }
    assert_equals_torchfile(write_torch7(tmp_path / "file.t7", root))


def refusal(tmp_path: Path, content: bytes | bytearray) -> str:
    file = tmp_path / "bad.t7"
    file.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        read_torch7(file)
    text = str(caught.value)
    assert str(file) in text
    assert "\n" not in text
    return text


def header(*numbers: int, text: bytes = b"") -> bytes:
    return struct.pack(f"<{len(numbers)}i", *numbers) + text


NUMBER_KEY = struct.pack("<id", 1, 1.0)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "found an empty one: .*: download it again"),
        (b"PK\x03\x04rest", "found a PyTorch file: .*use `foveate import-torch`"),
        (b"\x80\x02}q", "found a pickle: "),
        (b"<!DOCTYPE html>", "found a web page: .*: download the file again"),
        (b"4\n1\n3\nV 1", "found an ASCII Torch7 file: .*: save it as binary"),
        (header(9), "expected a tag from 0 to 8 at byte 0, found 9"),
        (header(3), "expected at most 0 bytes more at byte 4, found 4"),
        (header(3, 1, 2**31 - 1), "expected a table of at most 0 entries at byte 8, found 2147"),
        (header(3, 1, -1), "found -1"),
        (header(2, -5), "found -5"),
        (header(4, 1, 3, text=b"a b"), "expected the name of a class, found 'a b'"),
        (header(0, 0), "expected the end at byte 4, found 4 bytes more"),
        (header(3, 1, 1, 0, 0, 0), "expected a new key before byte 16, found nil"),
        (header(4, 1, 3, text=b"a.b" + header(0)), "expected a table of fields of a.b .* nil"),
        (header(4, 1, 18, text=b"torch.FloatStorage" + b"\xff" * 8), "found -4"),
        (header(8, 1, 2**30), "found 1073741824"),
    ],
)
def test_other_content_is_refused(tmp_path: Path, content: bytes, expected: str) -> None:
    assert re.search(expected, refusal(tmp_path, content))


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"shape": (4, 6)}, "within the 12 elements of its storage, found elements 0 to 17"),
        ({"offset": 1}, "found elements 1 to 12"),
        ({"offset": -1}, "found elements -1 to 10"),
        ({"strides": (-4, 1)}, "expected a tensor within the file"),
        ({"shape": (2**40, 2**40)}, "expected a tensor within the file"),
        ({"kind": "Double"}, "expected a torch.DoubleStorage behind a torch.DoubleTensor"),
        ({"storage": None}, "expected a torch.FloatStorage behind .*, found nil"),
        ({"storage": [1]}, "found table"),
        ({"shape": (1,) * 17, "strides": (1,) * 17}, "at most 16 dimensions at byte .*, found 17"),
    ],
)
def test_a_tensor_beyond_its_storage_is_refused(
    tmp_path: Path, wrong: dict[str, Any], expected: str
) -> None:
    good = tensor(np.zeros((3, 4)))
    bad = dataclasses.replace(good, **wrong)
    assert re.search(expected, refusal(tmp_path, T7Writer().write(bad)))


def test_an_expanded_tensor_is_read_and_not_copied(tmp_path: Path) -> None:
    expanded = T7Tensor(T7Storage(np.ones(2)), (10, 2), (0, 1))
    found = read(tmp_path, [expanded, "x" * 200])
    assert isinstance(found, Table)
    with pytest.raises(ModelError, match="at most the 2 elements of its storage, found 20"):
        view_of(found[1])


def test_a_reference_to_another_kind_of_object_is_refused(tmp_path: Path) -> None:
    table: dict[Any, Any] = {"a": 1}
    writer = T7Writer()
    content = bytearray(writer.write([table, T7Object("nn.ReLU"), table]))
    struct.pack_into("<i", content, writer.positions["index"][-1], 3)
    assert "expected a table as object 3" in refusal(tmp_path, content)


def test_depth_costs_no_recursion_and_has_a_limit(tmp_path: Path) -> None:
    tables = [header(3, i, 1) + NUMBER_KEY for i in range(MAX_DEPTH + 1)]
    file = tmp_path / "deep.t7"
    file.write_bytes(b"".join(tables[:MAX_DEPTH]) + header(5, 1))
    assert isinstance(read_torch7(file), Table)
    too_deep = b"".join(tables) + header(5, 1)
    assert f"expected objects at most {MAX_DEPTH} deep" in refusal(tmp_path, too_deep)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused_with_what_was_missing(tmp_path: Path, kept: float) -> None:
    content = T7Writer().write({"w": tensor(np.zeros(1000)), "x": [1, 2, 3]})
    text = refusal(tmp_path, content[: int(len(content) * kept)])
    assert "at byte" in text
    assert text.endswith("the file is damaged or not in Torch7 format: download it again")
