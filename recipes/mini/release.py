# SPDX-License-Identifier: Apache-2.0
"""Make the shipped bundle of a finished training: export, measure, write the model card.

python recipes/mini/release.py runs/mini --data data --voc4 voc4 --output src/foveate/assets/bundles/mini
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import foveate
from foveate.evaluation import Estimate, GroundTruth, evaluate
from foveate.export.bundle_export import ExportOptions, export_bundle
from foveate.models.checkpoint import Cascade, load_checkpoint

HERE = Path(__file__).parent
Figures = dict[str, Estimate]


def main() -> None:
    """Export, measure and write."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("run", type=Path, help="what `foveate train --output` wrote")
    parser.add_argument("--data", type=Path, required=True, help="holds validation/")
    parser.add_argument("--voc4", type=Path, required=True, help="the four photographs")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    cascade = load_checkpoint(arguments.run / "mini.safetensors")
    deepmask = load_checkpoint(arguments.run / "deepmask.safetensors")
    deepmask = replace(
        deepmask, info=replace(deepmask.info, mask_threshold=cascade.info.mask_threshold)
    )
    validation, photographs = GroundTruth.open(arguments.data), GroundTruth.open(arguments.voc4)
    measured = {
        "sharpmask": _measure(cascade, validation, "proposals"),
        "deepmask": _measure(deepmask, validation, "proposals"),
        "detections": _measure(cascade, validation, "detections"),
        "sharpmask_voc": _measure(cascade, photographs, "proposals"),
        "deepmask_voc": _measure(deepmask, photographs, "proposals"),
    }
    accuracy = {
        name: {key: round(figure.value, 4) for key, figure in figures.items()}
        for name, figures in measured.items()
    }
    card = _card(cascade, measured, validation, photographs)
    options = ExportOptions(accuracy=accuracy)
    bundle = export_bundle(
        cascade, arguments.output, options, {"MODEL_CARD.md": card.encode()}, overwrite=True
    )
    print(card)
    print(f"{sum(file.size for file in bundle.manifest.files.values()) / 1e6:.2f} MB in all")


def _measure(cascade: Cascade, truth: GroundTruth, task: str) -> Figures:
    with tempfile.TemporaryDirectory() as scratch:
        bundle = export_bundle(cascade, Path(scratch) / "bundle")
        pipeline = foveate.load(bundle.root, options=foveate.PipelineOptions(score_threshold=0.0))
        report = evaluate(
            pipeline, truth, task="proposals" if task == "proposals" else "detections"
        )
    return report.figures


def _card(
    cascade: Cascade,
    measured: dict[str, Figures],
    validation: GroundTruth,
    photographs: GroundTruth,
) -> str:
    cutouts, backgrounds = _splits("cutouts.csv"), _splits("backgrounds.csv")
    classes = {
        name.removeprefix("mask AP, class "): figure
        for name, figure in measured["detections"].items()
        if name.startswith("mask AP, class ")
    }
    with tempfile.TemporaryDirectory() as scratch:
        files = export_bundle(cascade, Path(scratch) / "bundle").manifest
    training = cascade.info.training
    return (
        (HERE / "model_card.md")
        .read_text(encoding="utf-8")
        .format(
            parameters=_parameters(cascade) / 1e6,
            megabytes=sum(file.size for file in files.files.values()) / 1e6,
            classes=", ".join(cascade.info.class_names),
            trained="; ".join(f"{name}: {value}" for name, value in training.items()),
            weights=files.provenance["weights_sha256"],
            validation_images=len(validation.images),
            validation_objects=len(validation.objects),
            voc_objects=len(photographs.objects),
            class_rows="\n".join(f"| {name} | {_cell(value)} |" for name, value in classes.items()),
            train_cutouts=cutouts["train"],
            validation_cutouts=cutouts["validation"],
            train_backgrounds=backgrounds["train"],
            validation_backgrounds=backgrounds["validation"],
            **dict(_cells(measured)),
        )
    )


def _cells(measured: dict[str, Figures]) -> Iterator[tuple[str, str]]:
    for network in ("deepmask", "sharpmask"):
        figures, voc = measured[network], measured[f"{network}_voc"]
        yield f"{network}_ar10", _cell(figures["mask AR@10"])
        yield f"{network}_ar100", _cell(figures["mask AR@100"])
        for size in ("small", "medium", "large"):
            yield f"{network}_{size}", _cell(figures[f"mask AR@100, {size}"])
        yield f"{network}_voc_ar100", _cell(voc["mask AR@100"])
        yield f"{network}_voc", _cell(voc["mean best overlap"])
        yield (f"{network}_voc_large", _cell(voc["mean best overlap, at least 1 % of the image"]))
    detections = measured["detections"]
    for name in ("AP", "AP50", "AP75"):
        yield name.lower(), _cell(detections[f"mask {name}"])


def _cell(figure: Estimate) -> str:
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
