# SPDX-License-Identifier: Apache-2.0
"""The model card of a bundle, and what the Hugging Face Hub reads of it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from foveate.bundle import Bundle, Manifest, NetworkSpec, SourceSpec, write_bundle
from foveate.export.model_card import front_matter, model_card

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")

ACCURACY = {
    "photographs: of 2017": {"mask AR@10": 0.125, "mask AR@10, small": 0.0625, "images": 53},
    "composed": {"mask AP": 0.5},
}
HOSTILE = 'a: "name" # with - {everything} | é\\'


@pytest.fixture
def manifest(contrast_bundle: Path) -> Manifest:
    manifest = Bundle.open(contrast_bundle).manifest
    networks = (NetworkSpec(name="sharpmask-resnet50"), NetworkSpec(name="multipathnet-vgg16"))
    provenance = {"accuracy": ACCURACY, "training": {"images": "8 | 9"}, "weights_sha256": "ab12"}
    return replace(manifest, provenance=provenance, source=SourceSpec(networks=networks))


def metadata(text: str) -> dict[str, Any]:
    """Return the metadata of a card, as another reader of YAML finds them."""
    _, block, _ = text.split("---\n", 2)
    found: dict[str, Any] = yaml.safe_load(block)
    return found


def test_the_metadata_are_those_that_the_hub_expects(manifest: Manifest) -> None:
    assert metadata(model_card(manifest)) == {
        "license": "unknown",
        "library_name": "foveate",
        "pipeline_tag": "image-segmentation",
        "tags": ["foveate", "onnx", "instance-segmentation", "object-proposals"],
        "model-index": [
            {
                "name": manifest.name,
                "results": [
                    {
                        "task": {"type": "image-segmentation"},
                        "dataset": {"type": "photographs: of 2017", "name": "photographs: of 2017"},
                        "metrics": [{"type": "mask_ar_10", "name": "mask AR@10", "value": 0.125}],
                    },
                    {
                        "task": {"type": "image-segmentation"},
                        "dataset": {"type": "composed", "name": "composed"},
                        "metrics": [{"type": "mask_ap", "name": "mask AP", "value": 0.5}],
                    },
                ],
            }
        ],
    }


def test_the_library_of_the_hub_reads_the_card(manifest: Manifest) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="needs the package huggingface-hub")
    card = hub.ModelCard(model_card(replace(manifest, name=HOSTILE)))
    assert card.data.model_name == HOSTILE
    assert card.data.library_name == "foveate"
    assert [
        (one.task_type, one.dataset_name, one.metric_name, one.metric_value)
        for one in card.data.eval_results
    ] == [
        ("image-segmentation", "photographs: of 2017", "mask AR@10", 0.125),
        ("image-segmentation", "composed", "mask AP", 0.5),
    ]
    assert card.text.lstrip().startswith("# ")


def test_without_figures_the_card_says_how_to_measure_them(manifest: Manifest) -> None:
    text = model_card(replace(manifest, provenance={}))
    assert "model-index" not in metadata(text)
    assert "## Accuracy\n\nNo figures are recorded; `foveate evaluate` measures them" in text


def test_the_card_states_what_the_manifest_records(manifest: Manifest) -> None:
    text = model_card(manifest)
    assert "finds, outlines and names objects in images" in text
    assert "SharpMask refines their masks, and MultiPathNet names them." in text
    assert "\n## Classes\n\nred, green, blue\n" in text
    assert "| composed | mask AP | 0.500 |" in text
    assert "| network | multipathnet-vgg16 |" in text
    assert r"| training, images | 8 \| 9 |" in text
    for name, stage in manifest.stages.items():
        size = f"{manifest.files[stage.file].size / 1e6:.2f}"
        one = stage.inputs[0]
        shape = ", ".join(map(str, one.shape))
        assert f"| {name} | fp32 | {size} | input `{one.name}` | {one.dtype} | ({shape}) |" in text


def test_every_row_of_a_table_has_as_many_cells_as_its_head(manifest: Manifest) -> None:
    tables = re.findall(r"(?:^\|.*\n)+", model_card(manifest), re.MULTILINE)
    assert len(tables) == 4
    for table in tables:
        counts = {len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}
        assert len(counts) == 1, table


def test_a_bundle_that_proposes_only_is_called_so(proposing_bundle: Path) -> None:
    text = model_card(Bundle.open(proposing_bundle).manifest)
    assert "This bundle of ONNX files outlines objects in images." in text
    assert "None: the bundle proposes objects of any class." in text
    assert "MultiPathNet" not in text


def test_a_card_may_be_edited(manifest: Manifest, contrast_bundle: Path, tmp_path: Path) -> None:
    files = {name: (contrast_bundle / name).read_bytes() for name in manifest.files}
    bundle = write_bundle(tmp_path / "small", manifest, files, card=model_card)
    card = bundle.root / "README.md"
    assert card.read_text("utf-8") == model_card(manifest)
    card.write_text(card.read_text("utf-8").replace("license: unknown", "license: mit"), "utf-8")
    assert Bundle.open(bundle.root).manifest == bundle.manifest


def test_the_card_of_mini_has_the_metadata_of_its_manifest() -> None:
    mini = Bundle.open("mini")
    text = (mini.root / "README.md").read_text("utf-8")
    assert text.startswith(front_matter(mini.manifest, license_id="apache-2.0") + "\n# mini\n")
    assert metadata(text)["license"] == "apache-2.0"
