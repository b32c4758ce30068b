# SPDX-License-Identifier: Apache-2.0
"""The files of a bundle: what they may be, where weights may lie, and that they fit together."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.bundle.test_bundle import FILES, manifest_of

import foveate
from foveate.bundle import Bundle, FileSpec, write_bundle
from foveate.bundle.external_data import external_files
from foveate.errors import BundleError
from foveate.system.regular_files import file_digest


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "tiny", manifest_of(), FILES).root


def put_fifo(path: Path) -> None:
    os.mkfifo(path)


def put_zero_device(path: Path) -> None:
    try:
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("device nodes can only be made by root")


def put_folder(path: Path) -> None:
    path.mkdir()


def put_link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def put_link_out(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("name", ["manifest.json", "refine.onnx", "cards/model.md"])
@pytest.mark.parametrize(
    "put", [put_fifo, put_zero_device, put_folder, put_link_to_itself, put_link_out]
)
def test_what_is_no_regular_file_inside_is_refused_at_once(
    root: Path, name: str, put: Callable[[Path], None]
) -> None:
    (root / name).unlink()
    put(root / name)
    with pytest.raises(
        BundleError, match="not a regular file|Is a directory|leaves the bundle|Too many"
    ):
        Bundle.open(root)


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "\ud800", "./" + "y" * 300])
def test_names_that_no_folder_can_have_are_no_bundle(name: str) -> None:
    with pytest.raises(BundleError, match="there is no such bundle"):
        Bundle.open(name)


def test_no_more_is_read_of_a_file_than_was_announced(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "x", manifest_of(), FILES)
    with (bundle.root / "cards/model.md").open("r+b") as stream:
        stream.truncate(1 << 42)  # sparse
    with pytest.raises(BundleError, match="has 4398046511104 bytes, the manifest lists 5"):
        Bundle.open(bundle.root)


def external(name: str, location: str = "w.bin") -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[2])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="offset", value="0")
    tensor.external_data.add(key="location", value=location)
    return tensor


def graph_with(nodes: list[Any], tensors: list[TensorProto]) -> Any:
    return helper.make_graph(nodes, "g", [], [], tensors)


def constant(tensor: TensorProto) -> Any:
    return helper.make_node("Constant", [], ["c"], value=tensor)


def model(nodes: list[Any], tensors: list[TensorProto] | None = None, **fields: Any) -> bytes:
    return bytes(helper.make_model(graph_with(nodes, tensors or []), **fields).SerializeToString())


def sparse() -> Any:
    values = numpy_helper.from_array(np.ones(2, np.float32), "v")
    indices = TensorProto(name="i", data_type=TensorProto.INT64, dims=[2])
    indices.CopyFrom(external("i"))
    return helper.make_sparse_tensor(values, indices, [9])


def with_sparse_initializer() -> bytes:
    made = onnx.load_from_string(model([]))
    made.graph.sparse_initializer.append(sparse())
    return bytes(made.SerializeToString())


def with_training() -> bytes:
    made = onnx.load_from_string(model([]))
    made.training_info.add().algorithm.initializer.append(external("w"))
    return bytes(made.SerializeToString())


PLACES = {
    "initializer": model([], [external("w")]),
    "attribute": model([constant(external("w"))]),
    "list": model([helper.make_node("X", [], ["y"], domain="d", many=[external("w")])]),
    "sparse": model([helper.make_node("Constant", [], ["c"], sparse_value=sparse())]),
    "sparse initializer": with_sparse_initializer(),
    "training": with_training(),
    "subgraph": model(
        [helper.make_node("If", ["c"], ["y"], then_branch=graph_with([], [external("w")]))]
    ),
    "nested": model(
        [
            helper.make_node(
                "If",
                ["c"],
                ["y"],
                else_branch=graph_with(
                    [helper.make_node("Loop", [], [], body=graph_with([constant(external("w"))], []))],
                    [],
                ),
            )
        ]
    ),
    "function": model(
        [],
        functions=[
            helper.make_function("d", "F", [], ["c"], [constant(external("w"))], [
                helper.make_opsetid("", 18)
            ])
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_weights_in_a_file_that_is_not_listed_are_refused(tmp_path: Path, place: str) -> None:
    files = {**FILES, "refine.onnx": PLACES[place]}
    with pytest.raises(BundleError, match=r"'refine' reads weights from 'w\.bin', which the man"):
        write_bundle(tmp_path / "x", manifest_of(), files)
    write_bundle(tmp_path / "y", manifest_of(), {**files, "w.bin": b"8"})


@pytest.mark.parametrize("location", ["../w.bin", "/w.bin", "W.bin", "w.bin/../x"])
def test_other_ways_to_write_a_location_are_not_listed(tmp_path: Path, location: str) -> None:
    files = {**FILES, "refine.onnx": model([], [external("w", location)]), "w.bin": b""}
    with pytest.raises(BundleError, match="which the manifest does not list"):
        write_bundle(tmp_path / "x", manifest_of(), files)


def test_the_reader_of_locations_takes_every_damaged_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    whole = np.frombuffer(PLACES["nested"], np.uint8)
    for number in range(500):
        content = whole[: rng.integers(len(whole) + 1)].copy()
        if len(content):
            content[rng.integers(len(content))] = rng.integers(256)
        path = tmp_path / str(number)
        path.write_bytes(content.tobytes())
        with path.open("rb") as stream:
            list(external_files(stream, len(content)))


def test_listed_weights_beside_a_stage_are_read(tmp_path: Path, contrast_bundle: Path) -> None:
    bundle = Bundle.open(contrast_bundle)
    folder = tmp_path / "split"
    folder.mkdir()
    files = {name: bundle.path(name).read_bytes() for name in bundle.manifest.files}
    split = onnx.load_from_string(files["propose.onnx"])
    onnx.save(split, folder / "propose.onnx", save_as_external_data=True, location="w.bin",
              size_threshold=0)  # fmt: skip
    files |= {path.name: path.read_bytes() for path in folder.iterdir()}
    write_bundle(tmp_path / "x", bundle.manifest, files)
    with foveate.load(tmp_path / "x") as pipeline:
        assert len(pipeline.propose(np.zeros((64, 96, 3), np.uint8))) == 0


READ = """
import sys, time
import foveate
from foveate.bundle import Bundle
until, rounds = time.monotonic() + float(sys.argv[2]), 0
while time.monotonic() < until or rounds < 3:
    rounds += 1
    names = {Bundle.open(sys.argv[1]).manifest.name for _ in range(20)}
    assert names <= {"contrast", "other"}
    with foveate.load(sys.argv[1]) as pipeline:
        found = pipeline.engines["refine"].inputs[0].shape[1]
        assert (found == 3) == (pipeline.bundle.manifest.name == "contrast"), found
"""
WRITE = """
import sys, time
from dataclasses import replace
from pathlib import Path
from foveate.bundle import Bundle, write_bundle
until = time.monotonic() + float(sys.argv[2])
bundles = [Bundle.open(path) for path in sys.argv[3:]]
while time.monotonic() < until:
    for bundle in bundles:
        files = {name: bundle.path(name).read_bytes() for name in bundle.manifest.files}
        write_bundle(sys.argv[1], bundle.manifest, files, overwrite=True)
"""


def change_refine(bundle: Bundle, target: Path) -> Path:
    """Write a bundle whose manifest and refine stage take vectors of four values, not three."""
    files = {name: bundle.path(name).read_bytes() for name in bundle.manifest.files}
    refine = onnx.load_from_string(files["refine.onnx"])
    refine.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 4
    files["refine.onnx"] = refine.SerializeToString()
    content = json.loads(bundle.manifest.to_json())
    content["name"] = "other"
    content["stages"]["refine"]["inputs"][0]["shape"][1] = 4
    manifest = type(bundle.manifest).from_json(json.dumps(content))
    return write_bundle(target, manifest, files).root


@pytest.mark.parametrize("seconds", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_readers_beside_writers_never_see_a_mixture(
    tmp_path: Path, contrast_bundle: Path, seconds: int
) -> None:
    other = change_refine(Bundle.open(contrast_bundle), tmp_path / "other")
    target = tmp_path / "shared" / "bundle"
    bundle = Bundle.open(contrast_bundle)
    files = {name: bundle.path(name).read_bytes() for name in bundle.manifest.files}
    write_bundle(target, bundle.manifest, files)
    arguments = [str(target), str(seconds), str(contrast_bundle), str(other)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, *arguments], stderr=subprocess.PIPE, text=True
        )
        for code in (WRITE, WRITE, READ)
    ]
    errors = [process.communicate()[1] for process in processes]
    assert errors == ["", "", ""]
    assert [path.name for path in target.parent.iterdir()] == ["bundle"]


def test_a_stage_that_is_replaced_after_its_check_is_not_read(root: Path) -> None:
    bundle = Bundle.open(root)
    bundle.open_stage("refine").close()
    (root / "refine.onnx").write_bytes(b"2wo")
    with pytest.raises(BundleError, match="was replaced after its check"):
        bundle.open_stage("refine")
    listed = FileSpec(sha256=file_digest(root / "refine.onnx"), size=3)
    assert listed != bundle.manifest.files["refine.onnx"]


def test_killed_writers_lose_nothing_and_the_next_one_sweeps(
    tmp_path: Path, contrast_bundle: Path
) -> None:
    rng = np.random.default_rng(0)
    target = tmp_path / "shared" / "bundle"
    bundle = Bundle.open(contrast_bundle)
    files = {name: bundle.path(name).read_bytes() for name in bundle.manifest.files}
    write_bundle(target, bundle.manifest, files)
    code = WRITE.replace("bundles = [", "print(flush=True); bundles = [")
    arguments = [str(target), "60", str(contrast_bundle)]
    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(rng.uniform(0, 0.3))
            process.kill()
        assert Bundle.open(target).manifest == bundle.manifest
    write_bundle(target, bundle.manifest, files, overwrite=True)
    assert [path.name for path in target.parent.iterdir()] == ["bundle"]
