# SPDX-License-Identifier: Apache-2.0
"""Weights of PyTorch programs: trunks of torchvision, a port of DeepMask, and refused files."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F

from foveate.errors import ModelError
from foveate.importing import import_torch
from foveate.importing.imported_weights import State, class_names
from foveate.importing.pytorch import read_state
from foveate.models import DeepMask, MultiPathNet, build
from foveate.models.layers import FrozenAffine
from foveate.models.trunk import IMAGENET

Rename = Callable[[str], str]


def batch_norm(state: State, name: str, channels: int) -> None:
    state[f"{name}.weight"] = torch.rand(channels) + 0.5
    state[f"{name}.bias"] = torch.randn(channels) * 0.1
    state[f"{name}.running_mean"] = torch.randn(channels) * 0.1
    state[f"{name}.running_var"] = torch.rand(channels) + 0.5
    state[f"{name}.num_batches_tracked"] = torch.tensor(7)


def torchvision_resnet(network: torch.nn.Module, prefixes: tuple[str, ...]) -> State:
    """Return a state dict with the names of torchvision and the shapes of a network."""
    state: State = {"fc.weight": torch.zeros(9, 4), "fc.bias": torch.zeros(9)}
    for prefix in prefixes:
        for name, tensor in network.state_dict().items():
            if not name.startswith(prefix):
                continue
            theirs = name.removeprefix(prefix).replace("shortcut", "downsample")
            theirs = theirs.replace("affine", "bn")
            if theirs.endswith(".scale"):
                batch_norm(state, theirs.removesuffix(".scale"), len(tensor))
            elif theirs.endswith(".weight"):
                state[theirs] = torch.randn_like(tensor) * tensor[0].numel() ** -0.5
    return state


def stem(state: State, image: torch.Tensor, conv: str, bn: str) -> torch.Tensor:
    x = F.conv2d(image, state[f"{conv}.weight"], stride=2, padding=3)
    mean, variance = state[f"{bn}.running_mean"], state[f"{bn}.running_var"]
    return torch.relu(F.batch_norm(x, mean, variance, state[f"{bn}.weight"], state[f"{bn}.bias"]))


def write(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


@torch.inference_mode()
def test_a_resnet_of_torchvision_becomes_a_trunk(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = torchvision_resnet(build("deepmask-resnet50", width=2), ("trunk.",))
    found = import_torch(write(tmp_path / "r.pth", state), "deepmask-resnet50", neck=3, vector=4)
    network = found.build()
    assert isinstance(network, DeepMask)
    x = torch.randn(1, 3, 64, 64)
    inside = (..., slice(2, -2), slice(2, -2))  # the padding differs
    expected = stem(state, x, "conv1", "bn1")[inside]
    torch.testing.assert_close(network.trunk(x)[2][inside], expected, rtol=1e-5, atol=1e-5)
    block = network.trunk.get_submodule("layer2.0.shortcut.1")
    assert isinstance(block, FrozenAffine)
    name = "layer2.0.downsample.1"
    scale = state[f"{name}.weight"] / (state[f"{name}.running_var"] + 1e-5).sqrt()
    torch.testing.assert_close(block.scale, scale)
    torch.testing.assert_close(
        block.shift, state[f"{name}.bias"] - state[f"{name}.running_mean"] * scale
    )
    assert found.ignored["fc"] == 2
    # Weights and biases of neck, embed, mask, and the two layers of the score.
    assert found.notes[0] == "10 tensors are not in the file and random: train the network"
    assert not any("normalization" in note for note in found.notes)


def test_random_weights_are_the_same_each_time_and_draw_from_no_other_generator(
    tmp_path: Path,
) -> None:
    state = torchvision_resnet(build("deepmask-resnet50", width=2), ("trunk.",))
    file = write(tmp_path / "r.pth", state)
    torch.manual_seed(1)
    first = import_torch(file, "deepmask-resnet50", neck=3, vector=4).state
    drawn = torch.rand(1)
    second = import_torch(file, "deepmask-resnet50", neck=3, vector=4).state
    assert all(torch.equal(first[name], second[name]) for name in first)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), drawn)


def test_a_weight_of_another_shape_is_refused(tmp_path: Path) -> None:
    state = torchvision_resnet(build("deepmask-resnet50", width=2), ("trunk.",))
    state["layer1.0.conv1.weight"] = torch.zeros(2, 3, 1, 1)
    with pytest.raises(
        ModelError,
        match=r"expected trunk.layer1.0.conv1.weight of shape \(2, 2, 1, 1\) .* found \(2, 3, 1, 1\)",
    ):
        import_torch(write(tmp_path / "r.pth", state), "deepmask-resnet50")


@torch.inference_mode()
def test_a_detector_gets_the_last_stage_and_its_own_normalization(tmp_path: Path) -> None:
    torch.manual_seed(0)
    ours = build("multipathnet-resnet18", width=2)
    state = torchvision_resnet(ours, ("trunk.", "class_towers.0."))
    file = tmp_path / "resnet18.safetensors"
    safetensors.torch.save_file(state, file)
    imported = import_torch(file, "multipathnet-resnet18", classes=5)
    assert "the first convolution was adapted to the normalization" in imported.notes[1]
    network = imported.build()
    assert isinstance(network, MultiPathNet)
    name = "layer4.0.conv1.weight"
    assert torch.equal(network.class_towers[0].state_dict()[name], state[name])
    values = torch.randint(0, 256, (1, 40, 40, 3))
    inside = (..., slice(2, -2), slice(2, -2))
    expected = stem(state, IMAGENET(values), "conv1", "bn1")[inside]
    found = network.trunk(network.own_trunk.normalization(values))[2][inside]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_vgg_of_torchvision_is_turned_to_bgr_and_fills_every_tower(tmp_path: Path) -> None:
    torch.manual_seed(0)
    ours = build("multipathnet-vgg16", width=2, mixed=3, hidden=4).state_dict()
    state = {k[6:]: torch.randn_like(v) for k, v in ours.items() if k.startswith("trunk.")}
    for index in (0, 3):
        for part in ("weight", "bias"):
            like = ours[f"box_tower.embed.{index}.{part}"]
            state[f"classifier.{index}.{part}"] = torch.randn_like(like)
    sizes = {"mixed": 3, "hidden": 4}
    found = import_torch(write(tmp_path / "v.pth", state), "multipathnet-vgg16", **sizes)
    network = found.build()
    assert isinstance(network, MultiPathNet)
    for tower in network.towers:
        assert torch.equal(tower.state_dict()["embed.3.bias"], state["classifier.3.bias"])
    values = torch.randint(0, 256, (1, 16, 16, 3))
    expected = F.conv2d(IMAGENET(values), state["features.0.weight"], state["features.0.bias"])
    first = network.trunk.get_submodule("features.0")
    inside = first(network.own_trunk.normalization(values))[..., 1:-1, 1:-1]
    torch.testing.assert_close(inside, expected, rtol=1e-4, atol=1e-4)


def foolwood_state(state: State, ours: State) -> State:
    """Rename a trunk of torchvision and our heads as in foolwood/deepmask-pytorch, in DataParallel."""
    stages = {"conv1": "0.0.1", "bn1": "0.1", "layer1": "0.4", "layer2": "0.5", "layer3": "0.6"}
    renamed = {}
    for name, tensor in state.items():
        first, _, rest = name.partition(".")
        if first in stages:
            theirs = f"module.trunk.{stages[first]}.{rest}"
            renamed[theirs.replace(".conv2.", ".conv2.1.")] = tensor
    heads = {"neck": "trunk.1.0", "embed": "trunk.1.2", "mask": "maskBranch.0.0"}
    heads |= {"score.1": "scoreBranch.1", "score.4": "scoreBranch.4"}
    for head, theirs in heads.items():
        weight = torch.randn_like(ours[f"{head}.weight"])
        weight = weight[:, :, None, None] if head == "mask" else weight
        renamed[f"module.{theirs}.weight"] = weight
        renamed[f"module.{theirs}.bias"] = torch.randn_like(ours[f"{head}.bias"])
    return renamed


def test_a_deepmask_of_foolwood_is_renamed(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build("deepmask-resnet50", width=2, neck=3, vector=4, score_hidden=5)
    theirs = foolwood_state(torchvision_resnet(network, ("trunk.",)), network.state_dict())
    file = write(tmp_path / "DeepMask.pth.tar", {"epoch": 3, "state_dict": theirs, "best_iou": 0.5})
    found = import_torch(file)
    assert found.name == "deepmask-resnet50"
    assert "pad by reflection" in found.notes[0]
    state = found.build().state_dict()
    prefix = "module.trunk.0.5.1.conv2.1.weight"
    assert torch.equal(state["trunk.layer2.1.conv2.weight"], theirs[prefix])
    masks = theirs["module.maskBranch.0.0.weight"]
    assert torch.equal(state["mask.weight"], masks[:, :, 0, 0])
    assert torch.equal(state["score.4.bias"], theirs["module.scoreBranch.4.bias"])


class Custom:
    """A class of our own, which a pickle may not create."""


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"state_dict": Custom()}, "a pickle that names other objects, which could run code"),
        ([1, 2], "expected a state dict, found a list"),
        ({"epoch": 3}, "expected a state dict, found 1 value without tensors"),
        ({"a.weight": torch.zeros(2)}, "expected a DeepMask .*, found 1 tensors such as a.weight"),
    ],
)
def test_a_file_without_a_state_dict_is_refused(
    tmp_path: Path, content: Any, expected: str
) -> None:
    file = write(tmp_path / "bad.pth", content)
    with pytest.raises(ModelError, match=f"{expected}.*: .*bad.pth: "):
        import_torch(file)


def test_truncated_and_foreign_files_are_refused(tmp_path: Path) -> None:
    state = {"conv1.weight": torch.zeros(100, 100)}
    pickled = write(tmp_path / "a.pth", state).read_bytes()
    safe = safetensors.torch.save(state)
    halves = [pickled[: len(pickled) // 2], safe[: len(safe) // 2]]
    for content in (*halves, b"", b"\x04\0\0\0\x01\0\0\0 a Torch7 file"):
        file = tmp_path / "bad"
        file.write_bytes(content)
        with pytest.raises(ModelError, match="damaged or neither .*: .*import-torch7"):
            import_torch(file)


@pytest.mark.parametrize(
    ("network", "sizes", "expected"),
    [
        (
            "deepmask-mini",
            {},
            "expected a network on a ResNet or VGG .*'deepmask-mini'.*: use one of",
        ),
        (
            "deepmask-vgg",
            {"neck": 3, "vector": 4},
            r"expected trunk.features.0.bias .* for deepmask-vgg, found none",
        ),
        ("multipathnet-resnet50", {}, r"expected class_towers.0.layer4.* for .*50, found none"),
    ],
)
def test_weights_of_another_trunk_are_refused(
    tmp_path: Path, network: str, sizes: dict[str, int], expected: str
) -> None:
    state = torchvision_resnet(build("deepmask-resnet50", width=2), ("trunk.",))
    with pytest.raises(ModelError, match=expected):
        import_torch(write(tmp_path / "r.pth", state), network, **sizes)


@pytest.mark.parametrize(
    ("network", "block"), [("deepmask-resnet50", "layer3.6"), ("multipathnet-resnet18", "layer4.2")]
)
def test_a_deeper_resnet_is_not_cut_off(tmp_path: Path, network: str, block: str) -> None:
    ours = build(network, width=2)
    state = torchvision_resnet(ours, ("trunk.", "class_towers.0."))
    stage = block.partition(".")[0]
    more = {n.replace(f"{stage}.1", block): t for n, t in state.items() if f"{stage}.1." in n}
    file = write(tmp_path / "r.pth", state | more)
    found = f"expected the trunk of {network}, found another one with .*{block}.conv1.weight"
    with pytest.raises(ModelError, match=found):
        import_torch(file, network)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    state = torchvision_resnet(build("deepmask-resnet50", width=2), ("trunk.",))
    state["layer1.0.conv1.weight"][0] = float("nan")
    found = import_torch(write(tmp_path / "r.pth", state), "deepmask-resnet50", neck=3, vector=4)
    with pytest.raises(
        ModelError, match="finite numbers in trunk.layer1.0.conv1.weight, found NaN"
    ):
        found.build()


def test_an_incomplete_batch_norm_is_refused(tmp_path: Path) -> None:
    state = torchvision_resnet(build("deepmask-resnet50", width=2), ("trunk.",))
    del state["bn1.running_var"]
    with pytest.raises(ModelError, match="variance of .* in the batch norm bn1, found nothing"):
        import_torch(write(tmp_path / "r.pth", state), "deepmask-resnet50")


@pytest.mark.parametrize(
    "prefix", ["module.", "model.", "_orig_mod.", "net.", "module._orig_mod.", "ema_model.module."]
)
def test_a_prefix_of_all_names_is_removed(tmp_path: Path, prefix: str) -> None:
    state = torchvision_resnet(build("deepmask-resnet50", width=2), ("trunk.",))
    prefixed = {f"{prefix}{name}": tensor for name, tensor in state.items()}
    assert list(read_state(write(tmp_path / "r.pth", prefixed))) == [
        name for name, tensor in state.items() if tensor.dim()
    ]


def test_features_alone_are_not_a_prefix(tmp_path: Path) -> None:
    state = {"features.0.weight": torch.zeros(2, 3, 3, 3), "features.0.bias": torch.zeros(2)}
    wrapped = {f"model.{name}": tensor for name, tensor in state.items()}
    assert list(read_state(write(tmp_path / "v.pth", wrapped))) == list(state)


@pytest.mark.parametrize("keys", [["net"], ["model"], ["model_ema"], ["ema"], ["ema", "module"]])
def test_a_state_dict_is_found_in_its_wrappers(tmp_path: Path, keys: list[str]) -> None:
    state = {"conv1.weight": torch.ones(2), "fc.bias": torch.zeros(1)}
    content: dict[str, Any] = state
    for key in reversed(keys):
        content = {"epoch": 3, "optimizer": {"lr": 0.1}, key: content}
    assert list(read_state(write(tmp_path / "w.pth", content))) == list(state)


def test_the_weights_are_taken_before_their_running_mean(tmp_path: Path) -> None:
    content = {"ema": {"a.b": torch.zeros(1)}, "model": {"c.d": torch.zeros(1)}}
    assert list(read_state(write(tmp_path / "e.pth", content))) == ["c.d"]


def test_weights_of_half_precision_become_float32(tmp_path: Path) -> None:
    content = {
        "a.half": torch.tensor([1.5]).half(),
        "b.double": torch.tensor([0.1]).double(),
        "c.indices": torch.tensor([7]),
    }
    state = read_state(write(tmp_path / "h.pth", content))
    assert [one.dtype for one in state.values()] == [torch.float32, torch.float32, torch.int64]
    assert [one.item() for one in state.values()] == pytest.approx([1.5, 0.1, 7])


@pytest.mark.parametrize(
    ("index", "name"),
    [
        (0, "person"),
        (15, "cat"),
        (16, "dog"),
        (29, "frisbee"),
        (30, "skis"),
        (39, "bottle"),
        (41, "cup"),
        (56, "chair"),
        (62, "tv"),
        (67, "cell phone"),
        (79, "toothbrush"),
    ],
)
def test_classes_of_coco_have_their_usual_places(index: int, name: str) -> None:
    names = class_names(80)
    assert names[index] == name
    assert len(set(names)) == 80


def test_classes_of_voc_are_sorted_and_other_numbers_have_no_names() -> None:
    assert list(class_names(20)) == sorted(set(class_names(20)))
    assert class_names(2) == ("class 1", "class 2")


def test_a_dictionary_that_contains_itself_is_refused(tmp_path: Path) -> None:
    content: dict[str, Any] = {}
    content["model"] = content
    with pytest.raises(ModelError, match="found 1 value without tensors"):
        import_torch(write(tmp_path / "loop.pth", content))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_torchscript_file_is_refused_by_name(tmp_path: Path) -> None:
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "script.pt")  # type: ignore[no-untyped-call]  # untyped in PyTorch
    with pytest.raises(ModelError, match="found a TorchScript archive, .*: load it with") as caught:
        import_torch(tmp_path / "script.pt")
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("archive", [True, False])
def test_a_newer_pickle_is_read_or_refused_in_one_line_without_a_warning(
    tmp_path: Path, protocol: int, archive: bool
) -> None:
    torch.save(
        {"a.b": torch.zeros(1)},
        tmp_path / "p.pth",
        pickle_protocol=protocol,
        _use_new_zipfile_serialization=archive,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            assert list(read_state(tmp_path / "p.pth")) == ["a.b"]
        except ModelError as error:
            assert "found a pickle of a newer protocol: " in str(error)  # noqa: PT017 - it may also be read


def test_the_error_of_pytorch_for_a_damaged_file_is_cut_to_one_sentence(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("a/version", "3")
    with pytest.raises(ModelError) as caught:
        import_torch(tmp_path / "a.pth")
    assert "PytorchStreamReader failed locating file data.pkl: file not found): " in str(
        caught.value
    )


def test_names_that_do_not_fit_are_listed_next_to_those_expected(tmp_path: Path) -> None:
    state = {f"block{i}.weight": torch.zeros(1) for i in range(5)}
    file = write(tmp_path / "x.pth", state)
    found = "5 tensors such as block0.weight, block1.weight, block2.weight, ..."
    with pytest.raises(ModelError, match=rf"trunk.0.0.1.weight and .*, found {found}: .*--network"):
        import_torch(file)
    with pytest.raises(ModelError, match=rf"conv1.weight or features.0.weight, found .*{found}"):
        import_torch(file, "deepmask-resnet50")
