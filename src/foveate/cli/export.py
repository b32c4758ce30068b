# SPDX-License-Identifier: Apache-2.0
"""``foveate export``: export a checkpoint, or a bundle again, to a bundle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foveate.cli._console import print_line, show_progress
from foveate.cli._options import given_options
from foveate.plain_text import counted

if TYPE_CHECKING:
    from foveate.bundle import Manifest
    from foveate.export.bundle_export import ExportOptions
    from foveate.export.precision import PrecisionOptions
    from foveate.models.checkpoint import Cascade


def command(
    checkpoint: Annotated[
        str,
        typer.Argument(
            help="Checkpoint (.safetensors) written by `foveate train` or an import command; or a "
            "bundle, to export it again: the name of a shipped one, or a path."
        ),
    ],
    *,
    context: typer.Context,
    detector: Annotated[
        Path | None, typer.Option(help="Checkpoint of a detector to add to a proposal network.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Directory of the bundle.")],
    name: Annotated[
        str | None, typer.Option(help="Name of the bundle; by default that of its directory.")
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(min=1, help="Windows refined per image; by default those of the networks."),
    ] = None,
    max_side: Annotated[
        int | None,
        typer.Option(
            min=16, help="Longer side of the working image; by default 1024, or the bundle's."
        ),
    ] = None,
    precision: Annotated[
        str, typer.Option(help="fp32, fp16 or int8; or per stage, as propose=int8,refine=fp16.")
    ] = "fp32",
    calibration: Annotated[
        list[Path] | None,
        typer.Option(
            help="Image or directory of images to calibrate int8 on, and to measure fp16; by default "
            "the shipped images. Repeatable."
        ),
    ] = None,
    calibration_method: Annotated[
        str, typer.Option(help="percentile, min-max or entropy.")
    ] = "percentile",
    max_quantization_error: Annotated[
        float,
        typer.Option(
            help="Largest mean squared error of a stage's outputs, as a share of their variance; "
            "layers are left out of int8 until it is reached."
        ),
    ] = 0.01,
    standard_ops_only: Annotated[
        bool, typer.Option("--standard-ops-only", help="Write standard ONNX operators only.")
    ] = False,
    with_paste: Annotated[
        bool, typer.Option("--with-paste", help="Add a stage that pastes masks into the image.")
    ] = False,
    svd: Annotated[
        str | None,
        typer.Option(
            help="Ranks to which fc6 and fc7 of the towers are truncated, such as 1024,256. Less "
            "work, but inexact: measure the accuracy."
        ),
    ] = None,
    optimize: Annotated[
        str | None,
        typer.Option(
            help="Exact graph passes that save work: some of fold-conv1x1,fold-encoder,"
            "batch-towers. Folded weights take twice the space."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing bundle.")] = False,
) -> None:
    """Export the networks of a checkpoint to ONNX, compare them with PyTorch, write a bundle."""
    from foveate.bundle import check_target
    from foveate.cli._files import check_folder
    from foveate.export.bundle_export import export_bundle
    from foveate.export.precision import PrecisionOptions

    check_folder(output)
    check_target(output, overwrite=overwrite)  # before the long work, as all options below
    precisions = PrecisionOptions.parse(
        precision,
        calibration=calibration or (),
        method=calibration_method,
        max_quantization_error=max_quantization_error,
    )
    _refuse_without_effect(context, precisions)
    ranks = _ranks(svd)
    cascade, options = _source(checkpoint, detector)
    options = replace(
        options,
        name=name or output.resolve().name,
        top_k=top_k or options.top_k,
        max_side=max_side or options.max_side,
        standard_ops_only=standard_ops_only,
        with_paste=with_paste or options.with_paste,
        svd=ranks,
        optimize=tuple(one.strip() for one in optimize.split(",")) if optimize else (),
        precision=precisions,
    )
    with show_progress() as progress:
        bundle = export_bundle(cascade, output, options, overwrite=overwrite, progress=progress)
    for line in _summary(bundle.manifest):
        print_line(line, to_stderr=True)
    print_line(f"Bundle: {bundle.root}", to_stderr=True)


def _refuse_without_effect(context: typer.Context, precisions: PrecisionOptions) -> None:
    """Refuse the given options of a calibration if no stage of these precisions needs one."""
    from foveate.errors import OptionError

    ignored = [] if precisions.quantizes else ["calibration_method", "max_quantization_error"]
    ignored += ["calibration"] if precisions.exact else []  # fp16 is measured on the images too
    if wrong := given_options(context, ignored):
        what = f"--precision {context.params['precision']} takes no {', '.join(wrong)}"
        raise OptionError(what, remedy="omit what belongs to a calibration, or use int8")


def _ranks(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    try:
        return tuple(int(rank) for rank in text.split(","))
    except ValueError:
        what = f"expected whole numbers such as 1024,256, got {text!r}"
        raise typer.BadParameter(what, param_hint="--svd") from None


def _source(text: str, detector: Path | None) -> tuple[Cascade, ExportOptions]:
    """Return the networks, and the export options that a bundle of them was written with."""
    from foveate.bundle import Bundle
    from foveate.cli._options import is_checkpoint
    from foveate.errors import OptionError
    from foveate.export.bundle_export import ExportOptions
    from foveate.export.to_onnx.bundle_weights import exact_cascade_from_bundle
    from foveate.models.checkpoint import load_checkpoint

    if is_checkpoint(text):
        return load_checkpoint(Path(text), detector), ExportOptions()
    if detector is not None:
        remedy = "pass --detector with a checkpoint"
        raise OptionError("a bundle already has a detector", remedy=remedy)
    bundle = Bundle.open(text)
    # Weights that quantization or passes changed cannot be exported again.
    return exact_cascade_from_bundle(bundle), ExportOptions.of_manifest(bundle.manifest)


def _summary(manifest: Manifest) -> list[str]:
    """Return a line per file, then a line per change that a pass made."""
    conversions = manifest.provenance.get("conversion", {}).get("stages", {})
    stages = {spec.file: stage for stage, spec in manifest.stages.items()}
    lines = []
    for file, one in manifest.files.items():
        stage = stages.get(file, "")
        facts = [manifest.precision_of(stage) if stage else ""]
        facts += _conversion_facts(conversions.get(stage, {}))
        lines.append(f"{file:16} {one.size / 1e6:6.2f} MB  {', '.join(facts)}".rstrip())
    return lines + _savings(manifest)


def _conversion_facts(conversion: dict[str, Any]) -> list[str]:
    facts = []
    if "float32_because" in conversion:
        facts.append(f"because {conversion['float32_because']}")
    if "quantization_error" in conversion:
        facts.append(f"quantization error {conversion['quantization_error']:.1e}")
    if conversion.get("left_out"):
        facts.append(f"{counted(len(conversion['left_out']), 'layer', 'layers')} left out")
    return facts


def _savings(manifest: Manifest) -> list[str]:
    """Return a line per change that a pass made, and per pass that made none."""
    passes, saved = manifest.source.optimize, manifest.provenance.get("saved", [])
    lines = []
    for one in saved:
        before, after = one["before"], one["after"]
        changes = ", ".join(f"{before[key]:,} -> {after[key]:,} {key}" for key in after)
        lines.append(f"{one['pass']:16} {one['layer']}: {changes}")
    idle = [name for name in passes if name not in {one["pass"] for one in saved}]
    return lines + [f"{name:16} saves nothing in these networks" for name in idle]
