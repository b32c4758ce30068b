# SPDX-License-Identifier: Apache-2.0
"""`foveate import-torch7` and `foveate import-torch`, from file to checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.importing.test_pytorch import torchvision_resnet
from tests.samples.torch7 import detectors as torch7_detectors
from tests.samples.torch7 import models as torch7_models
from tests.samples.torch7.models import Maker, saved, sealed
from tests.samples.torch7.writer import write_torch7

from foveate.cli import invoke
from foveate.importing import class_names, import_torch7
from foveate.models import DeepMask, build
from foveate.models.checkpoint import Cascade, load_checkpoint, load_detector


@pytest.fixture
def deepmask_file(tmp_path: Path) -> Path:
    tree = torch7_models.deepmask(Maker(form="addition"))
    return write_torch7(tmp_path / "deepmask.t7", saved(tree))


@pytest.fixture
def detector_file(tmp_path: Path) -> Path:
    tree = torch7_detectors.multipathnet_resnet(Maker(symmetric=False))
    return write_torch7(tmp_path / "detector.t7", sealed(tree, {}))


def run(*arguments: str | Path) -> int:
    return invoke([str(argument) for argument in arguments])


def test_a_deepmask_becomes_a_checkpoint(
    tmp_path: Path, deepmask_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new" / "deepmask.safetensors"
    assert run("import-torch7", deepmask_file, "--output", output) == 0
    told = capsys.readouterr().err
    assert "Network:    deepmask-resnet50 (width 2, neck 3, " in told
    assert "Ignored:    2 x nn.Dropout\n" in told
    assert f"foveate export {output} --output my-bundle" in told
    cascade = load_checkpoint(output)
    assert isinstance(cascade.proposals, DeepMask)
    assert cascade.info.proposals_sizes["affine_after_addition"] is True
    assert cascade.info.mask_threshold == pytest.approx(-1.3863, abs=1e-4)
    assert len(cascade.info.training["sha256"]) == 64
    expected = import_torch7(deepmask_file).build().state_dict()
    found = cascade.proposals.state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_the_normalization_of_boxes_is_that_of_the_file(tmp_path: Path) -> None:
    tree = torch7_detectors.fast_rcnn_vgg(Maker(symmetric=False))
    file = write_torch7(tmp_path / "detector.t7", sealed(tree, {}))
    assert run("import-torch7", file, "--output", tmp_path / "d.safetensors") == 0
    info = load_detector(tmp_path / "d.safetensors").info
    assert (info.delta_mean, info.delta_std) == ((0.0,) * 4, (1.0,) * 4)


def test_class_names_for_a_network_without_classes_are_refused(
    tmp_path: Path, deepmask_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names, output = tmp_path / "names.txt", tmp_path / "d.safetensors"
    names.write_text("cat\n", encoding="utf-8")
    assert run("import-torch7", deepmask_file, "--output", output, "--class-names", names) == 1
    assert "expected a detector, found deepmask-resnet50" in capsys.readouterr().err
    assert not output.exists()


def test_class_names_for_a_trunk_of_a_network_without_classes_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, names = tmp_path / "resnet50.pth", tmp_path / "names.txt"
    torch.save(torchvision_resnet(build("deepmask-resnet50", width=2), ("trunk.",)), file)
    names.write_text("cat\n", encoding="utf-8")
    options = ("--network", "deepmask-resnet50", "--class-names", names)
    assert run("import-torch", file, "--output", tmp_path / "d.safetensors", *options) == 1
    assert "expected a detector, found deepmask-resnet50" in capsys.readouterr().err


def test_a_detector_is_joined_with_a_proposal_network(
    tmp_path: Path, deepmask_file: Path, detector_file: Path
) -> None:
    proposals, both = tmp_path / "proposals.safetensors", tmp_path / "both.safetensors"
    assert run("import-torch7", deepmask_file, "--output", proposals) == 0
    names = tmp_path / "names.txt"
    names.write_text("cat\ndog\n\nbird\ncup\n", encoding="utf-8")
    options = ("--proposals", proposals, "--class-names", names)
    assert run("import-torch7", detector_file, "--output", both, *options) == 0
    cascade = load_checkpoint(both)
    assert isinstance(cascade, Cascade)
    assert cascade.info.class_names == ("cat", "dog", "bird", "cup")
    assert cascade.info.delta_std == pytest.approx((0.1, 0.1, 0.2, 0.2))
    assert cascade.classifier is not None


def test_a_detector_alone_can_be_joined_later(
    tmp_path: Path, detector_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "detector.safetensors"
    assert run("import-torch7", detector_file, "--output", output) == 0
    assert "pass --proposals" in capsys.readouterr().err
    assert load_detector(output).info.class_names[0] == "class 1"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected class names that are different and printable, found none: "),
        (b"cat\ndog\ncat\n", "different and printable, found 'cat': "),
        (b"cat\nd\x1bog\n", r"different and printable, found 'd\x1bog': "),
        (b"caf\xe9\n", "the class names cannot be read (it is not UTF-8): "),
        (None, "the class names cannot be read (No such file or directory): "),
    ],
)
def test_class_names_that_no_bundle_can_have_are_refused(
    tmp_path: Path,
    detector_file: Path,
    capsys: pytest.CaptureFixture[str],
    content: bytes | None,
    message: str,
) -> None:
    names, output = tmp_path / "names.txt", tmp_path / "d.safetensors"
    if content is not None:
        names.write_bytes(content)
    assert run("import-torch7", detector_file, "--output", output, "--class-names", names) == 1
    assert message in capsys.readouterr().err
    assert not output.exists()


def test_a_byte_order_mark_does_not_belong_to_a_class_name(
    tmp_path: Path, detector_file: Path
) -> None:
    names, output = tmp_path / "names.txt", tmp_path / "d.safetensors"
    names.write_bytes(b"\xef\xbb\xbfcat\r\ndog\r\nbird\r\ncup\r\n")
    assert run("import-torch7", detector_file, "--output", output, "--class-names", names) == 0
    assert load_detector(output).info.class_names == ("cat", "dog", "bird", "cup")


def test_a_wrong_number_of_class_names_is_one_line(
    tmp_path: Path, detector_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("cat\n", encoding="utf-8")
    options = ("--output", tmp_path / "x.safetensors", "--class-names", names)
    assert run("import-torch7", detector_file, *options) == 1
    error = capsys.readouterr().err
    assert "expected names for 4 classes, found 1" in error
    assert error.count("\n") == 1


def test_the_original_size_has_its_published_number_of_parameters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = torch7_models.deepmask(Maker(), width=64, neck=128, vector=512, score_hidden=1024)
    file = write_torch7(tmp_path / "model.t7", saved(tree))
    assert run("import-torch7", file, "--output", tmp_path / "d.safetensors") == 0
    assert "Parameters: 17,333,121\n" in capsys.readouterr().err


def test_import_torch_builds_on_a_trunk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trunk = torchvision_resnet(build("deepmask-resnet50", width=2), ("trunk.",))
    file, output = tmp_path / "resnet50.pth", tmp_path / "d.safetensors"
    torch.save(trunk, file)
    assert run("import-torch", file, "--output", output, "--network", "deepmask-resnet50") == 0
    assert "random: train the network" in capsys.readouterr().err
    assert load_checkpoint(output).info.proposals == "deepmask-resnet50"


def test_a_detector_on_a_trunk_has_the_classes_of_its_builder_unless_they_are_named(
    tmp_path: Path,
) -> None:
    network = build("multipathnet-resnet18", width=2)
    file, output = tmp_path / "resnet18.pth", tmp_path / "d.safetensors"
    torch.save(torchvision_resnet(network, ("trunk.", "class_towers.0.")), file)
    options = ("--output", output, "--network", "multipathnet-resnet18")
    assert run("import-torch", file, *options) == 0
    detector = load_detector(output)
    assert detector.info.class_names == class_names(80)
    assert detector.classifier.classes == 80
    names = tmp_path / "names.txt"
    names.write_text("cat\ndog\n", encoding="utf-8")
    assert run("import-torch", file, *options, "--class-names", names) == 0
    assert load_detector(output).info.class_names == ("cat", "dog")


def test_a_checkpoint_that_cannot_be_written_is_one_line(
    deepmask_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = deepmask_file / "below-a-file" / "d.safetensors"
    assert run("import-torch7", deepmask_file, "--output", output) == 1
    error = capsys.readouterr().err
    assert "the file cannot be written (Not a directory): " in error
    assert error.count("\n") == 1
