# SPDX-License-Identifier: Apache-2.0
"""Make the shipped bundle of a finished training: export, measure, write the model card.

::

    python recipes/mini/release.py runs/mini --data data --output src/foveate/assets/bundles/mini

DIRECTORY of --data holds the validation parts of `mini`, `named` and `photographs`, and `voc4`.
"""

from __future__ import annotations

import argparse
import csv
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path

from reliability import diagram, reliability

import foveate
from foveate.bundle import Manifest
from foveate.datasets import CocoDataset
from foveate.evaluation import Estimate, GroundTruth, evaluate
from foveate.export.bundle_export import ExportOptions, export_bundle
from foveate.export.model_card import front_matter
from foveate.models.checkpoint import Cascade, load_checkpoint

HERE = Path(__file__).parent
Figures = dict[str, Estimate]


def main() -> None:
    """Export, measure and write."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("run", type=Path, help="what `foveate train --output` wrote")
    parser.add_argument("--data", type=Path, required=True, metavar="DIRECTORY")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    cascade = load_checkpoint(arguments.run / "mini.safetensors")
    truths = {
        name: GroundTruth.open(arguments.data / folder)
        for name, folder in (
            ("composed", "mini/validation"),
            ("named", "named/validation"),
            ("photographs", "photographs/validation"),
            ("voc", "voc4"),
        )
    }
    with tempfile.TemporaryDirectory() as scratch:
        manifest, measured = _measure(cascade, truths, Path(scratch) / "bundle")
    bins = reliability(cascade, CocoDataset(arguments.data / "photographs/validation"))
    accuracy = {
        name: {
            key: round(figure.value, 4)
            for key, figure in figures.items()
            if not math.isnan(figure.value)  # there is no such object
        }
        for name, figures in measured.items()
    }
    card = _card(cascade, manifest, measured, truths, diagram(bins))
    options = ExportOptions(accuracy=accuracy)
    bundle = export_bundle(
        cascade,
        arguments.output,
        options,
        card=lambda manifest: front_matter(manifest, license_id="apache-2.0") + "\n" + card,
        overwrite=True,
    )
    print(card)
    print(f"{sum(file.size for file in bundle.manifest.files.values()) / 1e6:.2f} MB in all")


def _measure(
    cascade: Cascade, truths: dict[str, GroundTruth], folder: Path
) -> tuple[Manifest, dict[str, Figures]]:
    """Return the manifest of a bundle of the networks, and its figures by task and data set."""
    bundle = export_bundle(cascade, folder)
    options = foveate.PipelineOptions(score_threshold=0.0)
    with foveate.load(bundle.root, options=options) as pipeline:
        measured = {
            f"proposals_{name}": evaluate(pipeline, truths[name], task="proposals").figures
            for name in ("composed", "photographs", "voc")
        }
        for name in ("named", "photographs"):
            report = evaluate(pipeline, truths[name], task="detections")
            measured[f"detections_{name}"] = report.figures
    return bundle.manifest, measured


def _card(
    cascade: Cascade,
    manifest: Manifest,
    measured: dict[str, Figures],
    truths: dict[str, GroundTruth],
    diagram_rows: str,
) -> str:
    cutouts, named = _splits("cutouts.csv"), _splits("named_cutouts.csv")
    backgrounds = _splits("backgrounds.csv")
    training = cascade.info.training
    return (
        (HERE / "model_card.md")
        .read_text(encoding="utf-8")
        .format(
            parameters=_parameters(cascade) / 1e6,
            megabytes=sum(file.size for file in manifest.files.values()) / 1e6,
            classes=", ".join(cascade.info.class_names),
            trained="; ".join(f"{name}: {value}" for name, value in training.items()),
            weights=manifest.provenance["weights_sha256"],
            class_rows="\n".join(_class_rows(cascade, measured)),
            diagram=diagram_rows,
            train_cutouts=cutouts["train"],
            validation_cutouts=cutouts["validation"],
            named_train_cutouts=named["train"],
            named_validation_cutouts=named["validation"],
            train_backgrounds=backgrounds["train"],
            validation_backgrounds=backgrounds["validation"],
            **{f"{name}_images": len(truth.images) for name, truth in truths.items()},
            **{f"{name}_objects": _count(truth) for name, truth in truths.items()},
            **dict(_cells(measured)),
        )
    )


def _count(truth: GroundTruth) -> int:
    """Count the objects that are no crowds."""
    return sum(not one["iscrowd"] for one in truth.objects)


def _class_rows(cascade: Cascade, measured: dict[str, Figures]) -> Iterator[str]:
    for name in cascade.info.class_names:
        cells = [
            _cell(measured[f"detections_{data}"].get(f"mask AP, class {name}"))
            for data in ("photographs", "named")
        ]
        yield f"| {name} | {cells[0]} | {cells[1]} |"


def _cells(measured: dict[str, Figures]) -> Iterator[tuple[str, str]]:
    keys = {
        "ar10": "mask AR@10",
        "ar100": "mask AR@100",
        **{size: f"mask AR@100, {size}" for size in ("small", "medium", "large")},
        "overlap": "mean best overlap",
        "overlap_large": "mean best overlap, at least 1 % of the image",
        **{key: f"mask {key.upper()}" for key in ("ap", "ap50", "ap75")},
    }
    for name, figures in measured.items():
        for key, figure in keys.items():
            if figure in figures:
                yield f"{name}_{key}", _cell(figures[figure])


def _cell(figure: Estimate | None) -> str:
    if figure is None or math.isnan(figure.value):
        return "no object"
    return f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})"


def _splits(name: str) -> dict[str, int]:
    with (HERE / name).open(encoding="utf-8", newline="") as file:
        rows = [row["split"] for row in csv.DictReader(file)]
    return {split: rows.count(split) for split in ("train", "validation")}


def _parameters(cascade: Cascade) -> int:
    assert cascade.classifier is not None
    networks = (cascade.proposals, cascade.classifier)
    return sum(p.numel() for network in networks for p in network.parameters())


if __name__ == "__main__":
    main()
