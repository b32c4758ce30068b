# SPDX-License-Identifier: Apache-2.0
"""`foveate export`: a trained checkpoint, or a bundle, to a bundle that every runtime reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from foveate.bundle import Manifest
    from foveate.export.to_onnx.bundle_export import ExportOptions
    from foveate.models.checkpoint import Cascade


def command(
    checkpoint: Annotated[
        str,
        typer.Argument(
            help="A .safetensors file that `foveate train` wrote, or a bundle: a shipped one's name, "
            "or a path."
        ),
    ],
    *,
    detector: Annotated[
        Path | None,
        typer.Option(help="The checkpoint of a detector that was trained apart, to join it with."),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Directory of the bundle.")] = None,
    name: Annotated[
        str | None, typer.Option(help="The bundle's name; its directory's by default.")
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(min=1, help="Windows that are refined; 100 by default.")
    ] = None,
    max_side: Annotated[
        int | None,
        typer.Option(
            min=16, help="Longer side that images are shrunk to, in pixels; 1024 by default."
        ),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            help="fp32, fp16 or int8; or one a stage, as in propose=int8,features=int8,refine=fp16."
        ),
    ] = "fp32",
    calibration: Annotated[
        list[Path] | None,
        typer.Option(
            help="Image, or folder of images, that ranges of values are measured on; repeat it. "
            "The shipped photographs by default."
        ),
    ] = None,
    calibration_method: Annotated[
        str, typer.Option(help="percentile, min-max or entropy.")
    ] = "percentile",
    max_quantization_error: Annotated[
        float,
        typer.Option(
            help="Layers are left out of int8 until the error of every output, squared, is at most "
            "this share of its variance."
        ),
    ] = 0.01,
    standard_ops_only: Annotated[
        bool,
        typer.Option(
            "--standard-ops-only", help="Write standard ONNX only, our functions inlined."
        ),
    ] = False,
    with_paste: Annotated[
        bool,
        typer.Option("--with-paste", help="Add a stage that makes bits of an image of the masks."),
    ] = False,
    svd: Annotated[
        str | None,
        typer.Option(
            help="Ranks of the towers' linear layers, as 1024,256 for fc6 and fc7. Less work, but "
            "not exact: measure what it costs."
        ),
    ] = None,
    optimize: Annotated[
        str | None,
        typer.Option(
            help="Exact changes that save work, by name: some of fold-conv1x1,fold-encoder,batch-towers. Folded "
            "weights take twice the room in the file."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace a bundle that stands there.")] = False,
    triton: Annotated[
        Path | None, typer.Option(help="Write a model repository of Triton, to this directory.")
    ] = None,
    triton_engines: Annotated[
        bool,
        typer.Option("--triton-engines", help="Serve the bundle's TensorRT engines, not its ONNX."),
    ] = False,
) -> None:
    """Export the networks of a checkpoint to ONNX, check them, and write a bundle."""
    from foveate.bundle import Bundle, check_target
    from foveate.cli._console import progress, say
    from foveate.cli._files import check_folder
    from foveate.errors import OptionError

    if output is None and triton is None:
        raise OptionError(
            "there is nothing to write", remedy="give --output BUNDLE, or a bundle and --triton DIR"
        )
    if output is None and detector is not None:
        raise OptionError("a bundle has its detector", remedy="give --detector with --output")
    if output is None and svd is not None:
        raise OptionError("a bundle has its towers", remedy="give --svd with --output")
    if output is None and optimize is not None:
        raise OptionError("a bundle has its weights", remedy="give --optimize with --output")
    check_folder(output)
    check_folder(triton)
    if output is None:
        bundle = Bundle.open(checkpoint)
    else:
        from foveate.export.precision import PrecisionOptions
        from foveate.export.to_onnx.bundle_export import export_bundle

        check_target(output, overwrite=overwrite)
        asked = PrecisionOptions.parse(
            precision,
            calibration=calibration or (),
            method=calibration_method,
            max_quantization_error=max_quantization_error,
        )
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
            optimize=tuple(optimize.split(",")) if optimize else (),
            precision=asked,
        )
        with progress() as advance:
            bundle = export_bundle(cascade, output, options, overwrite=overwrite, tell=advance)
        for line in _summary(bundle.manifest):
            say(line, aside=True)
        say(f"Bundle: {bundle.root}", aside=True)
    if triton is not None:
        from foveate.export.triton import write_repository

        models = write_repository(bundle, triton, engines=triton_engines)
        say(f"Triton: {triton} serves {models[-1]!r} by {', '.join(models[:-1])}", aside=True)


def _ranks(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    try:
        return tuple(int(rank) for rank in text.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"expected whole numbers as in 1024,256, found {text!r}", param_hint="--svd"
        ) from None


def _source(text: str, detector: Path | None) -> tuple[Cascade, ExportOptions]:
    """Read the networks, and what a bundle of them says beside."""
    from foveate.bundle import Bundle
    from foveate.cli._given import is_checkpoint
    from foveate.errors import OptionError
    from foveate.export.execution.bundle_weights import exact_cascade_from_bundle
    from foveate.export.to_onnx.bundle_export import ExportOptions
    from foveate.models.checkpoint import load_checkpoint

    if is_checkpoint(text):
        return load_checkpoint(Path(text), detector), ExportOptions()
    if detector is not None:
        raise OptionError("a bundle has its detector", remedy="give --detector with a checkpoint")
    bundle = Bundle.open(text)
    return exact_cascade_from_bundle(bundle), ExportOptions.of_manifest(bundle.manifest)


def _summary(manifest: Manifest) -> list[str]:
    record = manifest.provenance.get("conversion", {}).get("stages", {})
    files = {spec.file: stage for stage, spec in manifest.stages.items()}
    lines = []
    for file, one in manifest.files.items():
        stage = files.get(file, "")
        of = record.get(stage, {})
        words = [manifest.precision_of(stage) if stage else ""]
        words += [f"because {of['float32_because']}"] if "float32_because" in of else []
        words += (
            [f"quantization error {of['quantization_error']:.1e}"]
            if "quantization_error" in of
            else []
        )
        words += [f"{len(of['left_out'])} layers left out"] if of.get("left_out") else []
        lines.append(f"{file:16} {one.size / 1e6:6.2f} MB  {', '.join(words)}".rstrip())
    return lines + _saved(manifest)


def _saved(manifest: Manifest) -> list[str]:
    """Say what each pass did, or that it found nothing to save."""
    asked, saved = manifest.source.optimize, manifest.provenance.get("saved", [])
    lines = [
        f"{one['pass']:16} {one['layer']}: "
        + ", ".join(
            f"{one['before'][key]:,} -> {one['after'][key]:,} {key}" for key in one["after"]
        )
        for one in saved
    ]
    idle = [name for name in asked if name not in {one["pass"] for one in saved}]
    return lines + [f"{name:16} saves nothing in these networks" for name in idle]
