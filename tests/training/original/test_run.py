# SPDX-License-Identifier: Apache-2.0
"""From a data set on disk to checkpoints: DeepMask, SharpMask on it, a detector; the command."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from tests.samples.training import (
    NARROW,
    narrow_deepmask,
    narrow_run,
    silent,
    write_dataset,
    write_proposals,
)

import foveate
from foveate.cli import invoke
from foveate.cli._train_mini import mini_of
from foveate.datasets import find_splits
from foveate.errors import BackendError, ModelError, OptionError
from foveate.evaluation.legacy import LegacyOptions
from foveate.models import DeepMask, MultiPathNet, SharpMask, build
from foveate.models.checkpoint import (
    Cascade,
    CascadeInfo,
    load_checkpoint,
    load_detector,
    round_to_half,
    save_checkpoint,
)
from foveate.training.loader import draw_batch
from foveate.training.original.batches import region_options, window_source
from foveate.training.original.objectives import DeepMaskObjective
from foveate.training.original.run import MASK_THRESHOLD, OriginalOptions, run
from foveate.training.resume import Origin, fingerprint, stamp

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


options = partial(narrow_run, steps=4, checkpoint_every=2)


class StoppedError(Exception):
    pass


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"))


def test_an_interrupted_run_of_deepmask_is_resumed_and_sharpmask_refines_it(
    dataset: Path, tmp_path: Path
) -> None:
    whole = run(options(dataset, tmp_path / "whole"), silent)

    def stop(_task: str, done: int, _total: int, _losses: object = None, /) -> None:
        if done == 3:
            raise StoppedError

    with pytest.raises(StoppedError):
        run(options(dataset, tmp_path / "broken"), stop)
    assert not (tmp_path / "broken" / "deepmask.safetensors").exists()
    resumed = run(options(dataset, tmp_path / "broken"), silent)
    assert resumed.name == "deepmask.safetensors"
    one, other = (safetensors.torch.load_file(file) for file in (whole, resumed))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)

    refined = run(
        options(
            dataset,
            tmp_path / "whole",
            network="sharpmask-resnet50",
            sizes={"km": 16, "ks": 16},
            deepmask=whole,
            workers=1,
        ),
        silent,
    )
    with pytest.raises(ModelError, match="of a deepmask-resnet50, found sharpmask-resnet50"):
        run(options(dataset, tmp_path / "wrong", init_from=refined), silent)
    deepmask, sharpmask = load_checkpoint(whole), load_checkpoint(refined)
    assert sharpmask.info.proposals == "sharpmask-resnet50"
    assert sharpmask.info.proposals_sizes == {**NARROW, "km": 16, "ks": 16}
    assert sharpmask.info.mask_threshold == MASK_THRESHOLD == pytest.approx(-1.3863, abs=1e-4)
    assert isinstance(sharpmask.proposals, SharpMask)
    frozen = sharpmask.proposals.deepmask.state_dict()
    for name, weights in deepmask.proposals.state_dict().items():
        assert torch.equal(frozen[name], weights), name


def test_a_run_goes_on_with_the_weights_that_it_began_with_only(
    dataset: Path, tmp_path: Path
) -> None:
    files = [tmp_path / "one.safetensors", tmp_path / "other.safetensors"]
    digests = []
    for file in files:
        network = narrow_deepmask()
        round_to_half(network)  # as a checkpoint has it
        info = CascadeInfo(proposals="deepmask-resnet50", proposals_sizes=NARROW)
        save_checkpoint(file, Cascade(info=info, proposals=network))
        digests.append(fingerprint(network))
    how = options(dataset, tmp_path / "run", steps=1)
    run(replace(how, init_from=files[0]), silent)
    run(replace(how, init_from=files[0]), silent)
    with pytest.raises(ModelError, match=f"initial '{digests[0]}', not '{digests[1]}'"):
        run(replace(how, init_from=files[1]), silent)


def write_checkpoint(file: Path) -> bytes:
    """Write an untrained deepmask-resnet50, and return the content of the file."""
    info = CascadeInfo(proposals="deepmask-resnet50", proposals_sizes=NARROW)
    save_checkpoint(file, Cascade(info=info, proposals=narrow_deepmask()))
    return file.read_bytes()


@pytest.mark.parametrize(
    ("network", "name"),
    [
        ("deepmask-vgg", "deepmask.safetensors"),
        ("deepmask-vgg", "deepmask.best.safetensors"),
        ("mini", "deepmask.safetensors"),
        ("mini", "mini.safetensors"),
    ],
)
def test_a_checkpoint_of_another_network_is_not_replaced(
    network: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = write_checkpoint(tmp_path / name)
    words = ["--dataset", "nowhere", "--output", str(tmp_path), "--network", network]
    assert invoke(["train", *words]) == 1
    message = "it is a checkpoint of deepmask-resnet50, which the training of "
    assert message in capsys.readouterr().err
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [(name, content)]


@pytest.mark.parametrize("name", ["deepmask.safetensors", "deepmask.best.safetensors"])
def test_a_result_without_the_state_of_its_run_is_not_replaced(
    name: str, dataset: Path, tmp_path: Path
) -> None:
    content = write_checkpoint(tmp_path / name)
    with pytest.raises(ModelError, match="no state of the run that made it is left") as caught:
        run(options(dataset, tmp_path), silent)
    assert caught.value.file == str(tmp_path / name)
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [(name, content)]


def test_a_mini_from_elsewhere_is_not_replaced(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = tmp_path / "mini.safetensors"
    save_checkpoint(checkpoint, mini_of(Path("mini")))
    content = checkpoint.read_bytes()
    assert invoke(["train", "--dataset", str(dataset), "--output", str(tmp_path)]) == 1
    assert "no state of the run that made it is left" in capsys.readouterr().err
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [
        ("mini.safetensors", content)
    ]


def test_a_detector_learns_from_proposals_and_may_start_from_another(
    dataset: Path, tmp_path: Path
) -> None:
    proposals = write_proposals(dataset, tmp_path / "proposals.json")
    how = options(
        dataset,
        tmp_path / "run",
        network="multipathnet-resnet18",
        sizes={"width": 4},
        proposals=proposals,
        steps=2,
        batch=1,
    )
    checkpoint = run(how, silent)
    assert checkpoint.name == "multipathnet.safetensors"
    detector = load_detector(checkpoint)
    assert detector.info.class_names == ("disc", "square")
    assert all(value > 0 for value in detector.info.delta_std)
    again = run(replace(how, output=tmp_path / "again", init_from=checkpoint, steps=1), silent)
    stem, first = (
        load_detector(c).classifier.state_dict()["trunk.conv1.weight"] for c in (checkpoint, again)
    )
    assert torch.equal(stem, first)


def test_a_run_on_changed_annotations_begins_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset, told = write_dataset(tmp_path / "data"), []
    how = options(dataset, tmp_path / "run", steps=1)
    (tmp_path / "run").mkdir()
    best = tmp_path / "run" / "deepmask.best.safetensors"
    best.touch()
    stamp(best, Origin(inputs={"the annotations or images": "of another data set"}))
    for _ in range(2):
        run(how, lambda task, *_: told.append(task))
    assert len(told) == 1
    assert not best.exists()
    file = dataset / "train" / "annotations.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    content["annotations"][0]["bbox"][2] += 1
    file.write_text(json.dumps(content), encoding="utf-8")
    run(how, lambda task, *_: told.append(task))
    assert len(told) == 2
    assert "the annotations or images changed since" in caplog.text


def test_a_bundle_proposes_once_for_the_same_images_and_is_closed(
    tmp_path: Path, proposing_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, load = write_dataset(tmp_path / "data"), foveate.load
    told: list[str] = []
    opened: list[foveate.Pipeline] = []

    def recorded(source: Path) -> foveate.Pipeline:
        opened.append(load(source))
        return opened[-1]

    monkeypatch.setattr(foveate, "load", recorded)
    how = options(
        dataset,
        tmp_path,
        network="multipathnet-resnet18",
        sizes={"width": 4},
        proposals=proposing_bundle,
        steps=1,
        batch=1,
    )
    run(how, lambda task, *_: told.append(task))
    assert told == ["proposals"] * 4 + ["multipathnet-resnet18"]
    results = json.loads((tmp_path / "proposals.json").read_text(encoding="utf-8"))
    assert {result["image_id"] for result in results} == {1, 2, 3, 4}
    told.clear()
    run(replace(how, seed=0), lambda task, *_: told.append(task))
    assert told == []
    os.utime(next((dataset / "train" / "images").iterdir()), ns=(1, 1))
    run(how, lambda task, *_: told.append(task))
    assert told == ["proposals"] * 4 + ["multipathnet-resnet18"]
    assert len(opened) == 2
    for pipeline in opened:
        with pytest.raises(BackendError, match="the pipeline is closed"):
            pipeline.propose(dataset / "train" / "images")


def test_the_first_papers_deepmask_learns_from_windows_of_224_px(dataset: Path) -> None:
    network = build("deepmask-vgg", width=2, neck=4, vector=8, score_hidden=4)
    assert isinstance(network, DeepMask)
    source = window_source(
        network, find_splits(dataset).train, LegacyOptions(), score_share=0.5, seed=0
    )
    batches = [draw_batch(source, range(2), 0, step).batch for step in range(8)]
    objective = DeepMaskObjective(network)
    shapes = {batch.head: (batch.patches.shape, batch.labels.shape) for batch in batches}
    assert shapes["mask"] == ((2, 224, 224, 3), (2, 224, 224))
    assert shapes["score"] == ((2, 224, 224, 3), (2,))
    # Its score head reads the trunk's features, so the window's vector is the mask head's alone.
    owner = {id(p): name for name, part in objective.parts().items() for p in part.parameters()}
    assert owner[id(network.embed.weight)] == "mask"
    for batch in batches[:3]:
        assert all(torch.isfinite(loss) for loss in objective.losses(batch).values())


def test_detectors_have_the_published_regions() -> None:
    fast = build("fast-rcnn-vgg16", classes=2, width=4, hidden=8)
    multipath = build("multipathnet-vgg16", classes=2, width=4, mixed=4, hidden=8)
    assert isinstance(fast, MultiPathNet)
    assert isinstance(multipath, MultiPathNet)
    pascal = region_options("fast-rcnn-vgg16", fast)
    assert (pascal.regions, pascal.short_side, pascal.long_side) == (128, 600, 1000)
    assert pascal.thresholds == (0.5,)
    coco = region_options("multipathnet-vgg16", multipath)
    assert (coco.regions, coco.short_side, coco.long_side) == (64, 800, 1000)
    assert coco.thresholds == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75)


def test_a_cut_off_image_is_replaced_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = write_dataset(tmp_path / "data")
    image = dataset / "train" / "images" / "2.png"
    image.write_bytes(image.read_bytes()[:2000])
    run(options(dataset, tmp_path / "run", batch=8, steps=2), silent)
    told = [record.getMessage() for record in caplog.records]
    assert any("did without a record" in text and "2.png" in text for text in told)


@pytest.mark.parametrize(
    ("network", "given", "message"),
    [
        ("sharpmask-resnet50", {}, "sharpmask-resnet50 needs a trained DeepMask"),
        ("multipathnet-vgg16", {}, "multipathnet-vgg16 needs proposals"),
        ("fast-rcnn-vgg16", {}, "fast-rcnn-vgg16 needs proposals"),
        (
            "deepmask-vgg",
            {"deepmask": Path("d")},
            "vgg does not take a trained DeepMask: SharpMask",
        ),
        ("deepmask-vgg", {"proposals": Path("p.json")}, "deepmask-vgg does not take proposals"),
        ("deepmask-vgg", {"validation_proposals": Path("v")}, "vgg takes no validation proposals"),
    ],
)
def test_what_a_network_needs_is_asked_for(
    network: str, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        OriginalOptions(network=network, dataset=Path(), output=Path(), **given)


def test_a_network_without_a_published_training_is_refused() -> None:
    with pytest.raises(ModelError, match="'deepmask-mini' has no published training: use one of"):
        _ = OriginalOptions(network="deepmask-mini", dataset=Path(), output=Path()).schedule


def test_another_deepmask_is_refused(dataset: Path, tmp_path: Path) -> None:
    detector = options(dataset, tmp_path, network="sharpmask-resnet50", deepmask=tmp_path / "no")
    with pytest.raises(ModelError, match="the checkpoint cannot be read"):
        run(detector, silent)


def test_the_command_hands_over_what_was_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[OriginalOptions] = []

    def recorded(options: OriginalOptions, _report: object) -> Path:
        asked.append(options)
        return options.result

    monkeypatch.setattr("foveate.training.original.run.run", recorded)
    words = "train --network sharpmask-resnet50 --dataset coco --output out --deepmask d --steps 9"
    more = "--reproduce-original --precision bfloat16 --size km=64 --size form=paper --validate-every 7"
    assert invoke([*words.split(), *more.split()]) == 0
    (found,) = asked
    assert (found.network, found.deepmask, found.steps) == ("sharpmask-resnet50", Path("d"), 9)
    assert found.precision == "bfloat16"
    assert (found.sizes, found.validate_every) == ({"km": 64, "form": "paper"}, 7)
    assert found.schedule.learning_rates == ((1, 1e-3),)
    assert "Checkpoint: out/sharpmask.safetensors" in capsys.readouterr().err


FULL_SIZE_ONLY = (
    "--trunk timm:resnet18 --trunk-weights random --deepmask d --proposals p.json "
    "--validation-proposals v.json --steps 3 --batch 2 --size km=64 --reproduce-original "
    "--device auto --precision auto --workers 2 --checkpoint-every 500 --validate-every 2000"
)
MINI_ONLY = (
    "--extra-dataset e --deepmask-steps 9 --sharpmask-steps 9 --multipathnet-steps 9 --views 3 "
    "--regions 600 --initial-share 0.5"
)


@pytest.mark.parametrize(
    ("network", "words", "remedy"),
    [
        ("mini", FULL_SIZE_ONLY, "name a full-size --network"),
        ("deepmask-resnet50", MINI_ONLY, "omit what belongs to mini"),
    ],
)
def test_a_network_refuses_the_options_of_the_others_even_with_their_defaults(
    network: str, words: str, remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["train", "--dataset", "nowhere", "--output", "o", "--network", network]
    assert invoke([*common, *words.split()]) == 1
    names = ", ".join(word for word in words.split() if word.startswith("--"))
    assert f"{network} takes no {names}: {remedy}" in capsys.readouterr().err


def test_a_share_of_initial_weights_needs_some(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "--dataset", "nowhere", "--output", "o", "--initial-share", "0.5"]
    assert invoke(words) == 1
    assert "share of the weights of --init-from, which is missing" in capsys.readouterr().err
