# SPDX-License-Identifier: Apache-2.0
"""Composed data sets on disk, the directories and lists they are made from, and the command."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from numpy.typing import NDArray
from pycocotools.coco import COCO
from typer.testing import CliRunner

from compose import (
    ComposeOptions,
    Composition,
    FixedSet,
    Sources,
    training_options,
    validation_options,
    write_dataset,
)
from compose.options import options_from_json
from compose_dataset import command
from foveate.errors import DataError, OptionError
from foveate.system.regular_files import file_digest


def draw_disc(number: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(number)
    coarse = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
    image = np.zeros((48, 48, 4), np.uint8)
    image[..., :3] = cv2.resize(coarse, (48, 48))
    cv2.circle(image, (24, 24), 20, (0, 0, 0, 0), 2)
    y, x = np.mgrid[:48, :48]
    image[..., 3] = 255 * (np.hypot(x - 23.5, y - 23.5) < 20)
    return image


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    for number in range(8):
        folder = tmp_path / "cutouts" / ("round" if number < 4 else "disc")
        folder.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(folder / f"{'abcdefgh'[number]}x.png"), draw_disc(number))
    (tmp_path / "backgrounds").mkdir()
    for number in range(4):
        coarse = np.random.default_rng(90 + number).integers(0, 256, (9, 12, 3), dtype=np.uint8)
        image = cv2.resize(coarse, (160, 120))
        assert cv2.imwrite(str(tmp_path / "backgrounds" / f"{'klmn'[number]}y.jpg"), image)
    return Sources(cutouts=tmp_path / "cutouts", backgrounds=tmp_path / "backgrounds")


def small(options: ComposeOptions) -> ComposeOptions:
    return replace(
        options,
        sizes=((128, 96),),
        objects=replace(options.objects, larger_side=(24.0, 90.0), min_visible_area=60),
    )


def composition(sources: Sources, options: ComposeOptions, seed: int = 0) -> Composition:
    return Composition(library=sources.load(), options=options, seed=seed)


def read(folder: Path) -> dict[str, bytes]:
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


# pycocotools' own arrays lack the argument `copy` of NumPy 2.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_annotations_agree_with_the_masks(sources: Sources, tmp_path: Path) -> None:
    scenes = composition(sources, small(training_options()), seed=3)
    write_dataset(tmp_path / "out", scenes, images=6, workers=0)
    coco = COCO(str(tmp_path / "out" / "annotations.json"))
    assert [item["name"] for item in coco.loadCats(coco.getCatIds())] == ["disc", "round"]
    assert sorted(coco.imgs) == list(range(1, 7))
    assert sorted(coco.anns) == list(range(1, len(coco.anns) + 1))
    for annotation in coco.anns.values():
        mask = coco.annToMask(annotation)
        rows, columns = np.nonzero(mask)
        left, top = columns.min(), rows.min()
        size = [columns.max() + 1 - left, rows.max() + 1 - top]
        assert annotation["bbox"] == [left, top, *size]
        assert annotation["area"] == mask.sum() >= 60
        assert annotation["iscrowd"] == 0
        assert annotation["cutout"].split("/")[0] in {"disc", "round"}
    for record in coco.imgs.values():
        image = cv2.imread(str(tmp_path / "out" / "images" / record["file_name"]))
        assert image is not None
        assert image.shape == (record["height"], record["width"], 3)
        assert record["background"].endswith("y.jpg")


@pytest.mark.slow
def test_the_bytes_do_not_depend_on_the_number_of_workers(sources: Sources, tmp_path: Path) -> None:
    scenes = composition(sources, small(training_options()), seed=1)
    for workers in (0, 2):
        write_dataset(tmp_path / str(workers), scenes, images=9, workers=workers)
    assert read(tmp_path / "0") == read(tmp_path / "2")


def test_interrupted_writing_leaves_nothing(sources: Sources, tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        assert total == 5
        if done == 3:
            raise KeyboardInterrupt

    before = sorted(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        write_dataset(
            tmp_path / "out",
            composition(sources, small(validation_options())),
            images=5,
            workers=0,
            progress=interrupt,
        )
    assert sorted(tmp_path.iterdir()) == before


def test_existing_output_is_left_alone(sources: Sources, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    scenes = composition(sources, validation_options())
    with pytest.raises(DataError, match=r"the output exists: .*out: delete it or name another"):
        write_dataset(tmp_path / "out", scenes, images=1, workers=0)


def test_impossible_numbers_are_named(sources: Sources, tmp_path: Path) -> None:
    scenes = composition(sources, validation_options())
    with pytest.raises(OptionError, match="found 0 images, 0 workers"):
        write_dataset(tmp_path / "out", scenes, images=0, workers=0)


def test_a_class_without_a_cutout_keeps_its_id(sources: Sources, tmp_path: Path) -> None:
    named = replace(sources, class_names=("animal", "disc", "person", "round"))
    scenes = composition(named, small(training_options()))
    write_dataset(tmp_path / "out", scenes, images=6, workers=0)
    document = json.loads((tmp_path / "out" / "annotations.json").read_text(encoding="utf-8"))
    assert [one["name"] for one in document["categories"]] == list(named.class_names)
    assert {one["category_id"] for one in document["annotations"]} == {2, 4}


def test_splits_of_folders_share_nothing_and_keep_class_ids(sources: Sources) -> None:
    parts = {split: sources.load(split) for split in ("train", "validation")}
    paths = {
        split: {
            cutout.entry.path
            for families in library.cutouts
            for family in families
            for cutout in family
        }
        for split, library in parts.items()
    }
    assert paths["train"].isdisjoint(paths["validation"])
    assert len(paths["train"] | paths["validation"]) == 8
    assert parts["train"].class_names == parts["validation"].class_names == ("disc", "round")


def test_an_unreadable_cutout_is_named(sources: Sources) -> None:
    (sources.cutouts / "disc" / "bad.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"cannot decode the cut-out: .*bad\.png: repair the file"):
        sources.load()


def test_a_cutout_without_alpha_is_named(sources: Sources) -> None:
    cv2.imwrite(str(sources.cutouts / "disc" / "flat.png"), draw_disc(0)[..., :3])
    with pytest.raises(DataError, match=r"without an alpha channel: .*flat\.png: save it as RGBA"):
        sources.load()


@pytest.mark.parametrize(("alpha", "text"), [(255, "opaque everywhere"), (0, "fewer than 64")])
def test_an_alpha_that_cuts_nothing_out_is_named(sources: Sources, alpha: int, text: str) -> None:
    image = draw_disc(0)
    image[..., 3] = alpha
    cv2.imwrite(str(sources.cutouts / "disc" / "full.png"), image)
    with pytest.raises(DataError, match=rf"{text}.*full\.png"):
        sources.load()


def test_an_empty_class_folder_is_named(sources: Sources) -> None:
    (sources.cutouts / "empty").mkdir()
    with pytest.raises(DataError, match=r"class directory without a cut-out.*empty: fill it"):
        sources.load()


def test_missing_backgrounds_are_named(sources: Sources, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match=r"no background found.*none: put at least one"):
        replace(sources, backgrounds=tmp_path / "none").load()


def test_a_missing_folder_is_named(sources: Sources, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected a directory .*absent: name an existing"):
        replace(sources, cutouts=tmp_path / "absent").load()


def test_options_survive_json() -> None:
    for options in (training_options(), validation_options()):
        text = json.dumps(asdict(options))
        assert options_from_json(json.loads(text)) == options


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(OptionError, match="unknown option 'color' of FinishOptions: known are"):
        options_from_json({"finish": {"color": 1}})


def fix(sources: Sources, folder: Path) -> tuple[Sources, Path]:
    """Lists in place of the directories, and a file that fixes a small validation set."""
    cutouts = ["path,class,family,split"]
    for number, file in enumerate(sorted(sources.cutouts.rglob("*.png"))):
        split = "validation" if number % 2 else "train"
        path = file.relative_to(folder).as_posix()
        cutouts.append(f"{path},{file.parent.name},f{number},{split}")
    backgrounds = ["path,kind,family,split"]
    for number, file in enumerate(sorted(sources.backgrounds.iterdir())):
        split = "validation" if number % 2 else "train"
        backgrounds.append(f"{file.relative_to(folder).as_posix()},photograph,g{number},{split}")
    lists = Sources(cutouts=folder / "cutouts.csv", backgrounds=folder / "backgrounds.csv")
    lists.cutouts.write_text("\n".join(cutouts) + "\n", encoding="utf-8")
    lists.backgrounds.write_text("\n".join(backgrounds) + "\n", encoding="utf-8")
    FixedSet(
        images=2,
        seed=4,
        split="validation",
        options=small(validation_options()),
        cutouts_sha256=file_digest(lists.cutouts),
        backgrounds_sha256=file_digest(lists.backgrounds),
    ).write(folder / "fixed.json")
    return lists, folder / "fixed.json"


def run(*arguments: str | Path) -> str:
    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_the_command_composes_a_fixed_set_of_lists(sources: Sources, tmp_path: Path) -> None:
    lists, fixed = fix(sources, tmp_path)
    named = ("--cutouts", lists.cutouts, "--backgrounds", lists.backgrounds, "--workers", "0")
    for name in ("one", "two"):
        output = run(*named, "--fixed", fixed, "--output", tmp_path / name)
        assert "Composing: 2 of 2" in output
    assert read(tmp_path / "one") == read(tmp_path / "two")
    document = json.loads((tmp_path / "one" / "annotations.json").read_text(encoding="utf-8"))
    assert {int(item["family"][1:]) % 2 for item in document["annotations"]} == {1}


def test_the_command_refuses_other_lists_than_the_fixed_ones(
    sources: Sources, tmp_path: Path
) -> None:
    lists, fixed = fix(sources, tmp_path)
    with lists.backgrounds.open("a", encoding="utf-8") as stream:
        stream.write("backgrounds/ky.jpg,photograph,z,validation\n")
    with pytest.raises(DataError, match=r"the list differs.*backgrounds\.csv: use the list"):
        run(
            *("--cutouts", lists.cutouts, "--backgrounds", lists.backgrounds),
            *("--fixed", fixed, "--output", tmp_path / "out"),
        )


def test_an_unknown_split_of_a_list_is_named(sources: Sources, tmp_path: Path) -> None:
    lists, _ = fix(sources, tmp_path)
    with pytest.raises(DataError, match=r"split 'test', the splits are: train, validation"):
        lists.load("test")
