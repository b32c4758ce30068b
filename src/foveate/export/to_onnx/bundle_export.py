# SPDX-License-Identifier: Apache-2.0
"""A trained cascade to a bundle."""

from __future__ import annotations

import hashlib
import platform
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import onnx

from foveate.bundle import (
    Bundle,
    ClassifySpec,
    FeaturesSpec,
    Manifest,
    MaskSpec,
    NetworkSpec,
    PluginSpec,
    PreprocessingSpec,
    PyramidSpec,
    SelectSpec,
    SourceSpec,
    StageSpec,
    TensorSpec,
    WindowSpec,
    write_bundle,
)
from foveate.errors import OptionError
from foveate.export.checks.stage_parity import check_stage, expected_of
from foveate.export.passes.run import check_passes, run_passes
from foveate.export.passes.svd import truncate_towers
from foveate.export.precision import PrecisionOptions, convert
from foveate.export.precision.conversion import Tell
from foveate.export.to_onnx.onnx_graph import export_stage
from foveate.export.to_onnx.operators import DOMAIN
from foveate.export.to_onnx.stages import Stage, cascade_stages, deepmask_of, paste_stage
from foveate.export.to_onnx.standard_ops import inline_functions
from foveate.images.reading import read_image
from foveate.models.checkpoint import Cascade, CascadeInfo, round_to_half
from foveate.models.deepmask import STRIDE
from foveate.models.sharpmask import SharpMask
from foveate.typed_options import TypedOptions


@dataclass(frozen=True, kw_only=True)
class ExportOptions(TypedOptions):
    """What a bundle says beside its networks; the defaults are those of `mini`.

    Attributes:
        name: the bundle's name.
        scales: of the pyramid, half an octave apart.
        max_side: longer side of the working image.
        top_k: windows refined.
        window_nms_iou: IoU of windows above which the lower score is dropped before refinement.
        short_side: shorter side of the image that the classifier's trunk sees.
        long_side: bound of its longer side.
        class_nms_iou: IoU of boxes of one class above which the lower score is dropped.
        max_detections: detections kept of an image.
        accuracy: measured figures for the model card.
        standard_ops_only: write standard operators only, with our functions inlined.
        with_paste: add the stage `paste`, which turns windows into bits of the image.
        svd: ranks of the towers' linear layers, which are then factored; none to leave them.
        optimize: names of exact passes, which save work; see `foveate.export.passes.run`.
        precision: of the stages; all in float32 if not given.
    """

    name: str = "mini"
    scales: tuple[float, ...] = (0.1768, 0.25, 0.3536, 0.5, 0.7071, 1.0, 1.4142, 2.0)
    max_side: int = 1024
    top_k: int = 100
    window_nms_iou: float = 0.8
    short_side: int = 576
    long_side: int = 1024
    class_nms_iou: float = 0.3
    max_detections: int = 100
    accuracy: Mapping[str, Any] = field(default_factory=dict)
    standard_ops_only: bool = False
    with_paste: bool = False
    svd: tuple[int, ...] = ()
    optimize: tuple[str, ...] = ()
    precision: PrecisionOptions | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_passes(self.optimize)

    @classmethod
    def of_manifest(cls, manifest: Manifest) -> ExportOptions:
        """Take what a bundle says, but for its figures: they are of that bundle."""
        options = cls(
            name=manifest.name,
            scales=manifest.pyramid.scales,
            max_side=manifest.pyramid.max_side,
            top_k=manifest.select.top_k,
            window_nms_iou=manifest.select.window_nms_iou,
            with_paste="paste" in manifest.stages,
        )
        if manifest.features is not None:
            options = replace(
                options,
                short_side=manifest.features.short_side,
                long_side=manifest.features.long_side,
            )
        if manifest.classify is not None:
            options = replace(
                options,
                class_nms_iou=manifest.classify.class_nms_iou,
                max_detections=manifest.classify.max_detections,
            )
        return options


def export_bundle(
    cascade: Cascade,
    directory: Path,
    options: ExportOptions | None = None,
    extra_files: Mapping[str, bytes] | None = None,
    *,
    overwrite: bool = False,
    tell: Tell | None = None,
) -> Bundle:
    """Export every stage, compare it with PyTorch, and write the bundle.

    Args:
        cascade: its towers are factored if so asked, its networks rounded to float16, and changed
            by the passes, in place.
        directory: where the bundle is to stand.
        options: what the manifest says.
        extra_files: further files of the bundle, such as a model card.
        overwrite: replace a bundle that stands there.
        tell: is told a task of the conversion to another precision, and how far it is.

    Returns:
        The bundle, opened and checked.

    Raises:
        OptionError: the towers cannot be factored by the ranks of `svd`.
        InputError: an image to calibrate with cannot be read.
        ModelError: a stage does not compute in ONNX Runtime what it computes in PyTorch, or loses too
            much in its precision.
    """
    options = options or ExportOptions()
    if options.precision is not None and not options.precision.exact:
        for image in options.precision.images:  # before minutes of work, not after
            read_image(image)
    if options.svd:
        _truncate_towers(cascade, options.svd)
    round_to_half(cascade.proposals)
    if cascade.classifier is not None:
        round_to_half(cascade.classifier)
    digest = weights_digest(cascade)
    stages = cascade_stages(cascade, long_side=options.long_side)
    if options.with_paste:
        stages.append(paste_stage(_mask_side(cascade), cascade.info.mask_threshold))
    # Before the passes, so that the file is compared with the networks as they were trained.
    expected = {stage.name: expected_of(stage) for stage in stages}
    saved = run_passes(cascade, options.optimize)
    models = {stage.name: export_stage(stage) for stage in stages}
    finished = inline_functions if options.standard_ops_only else _as_it_is
    for stage in stages:
        check_stage(stage, finished(models[stage.name]), expected[stage.name])
    manifest = _manifest(cascade, options, stages, {n: finished(m) for n, m in models.items()})
    manifest = replace(
        manifest,
        provenance={
            **manifest.provenance,
            "weights_sha256": digest,
            "saved": saved,
        },
    )
    if options.precision is not None and not options.precision.exact:
        manifest, models = _converted(manifest, models, options.precision, tell)
    files = _files({name: finished(model) for name, model in models.items()})
    return write_bundle(directory, manifest, {**files, **(extra_files or {})}, overwrite=overwrite)


def _truncate_towers(cascade: Cascade, ranks: tuple[int, ...]) -> None:
    if cascade.classifier is None:
        raise OptionError(
            "--svd factors a classifier's towers, and the checkpoint has no classifier",
            remedy="export without --svd",
        )
    truncate_towers(cascade.classifier, ranks)


def _as_it_is(model: onnx.ModelProto) -> onnx.ModelProto:
    return model


def _files(models: Mapping[str, onnx.ModelProto]) -> dict[str, bytes]:
    return {f"{name}.onnx": model.SerializeToString() for name, model in models.items()}


def _converted(
    manifest: Manifest,
    models: Mapping[str, onnx.ModelProto],
    options: PrecisionOptions,
    tell: Tell | None,
) -> tuple[Manifest, dict[str, onnx.ModelProto]]:
    """Run the float32 bundle on images, aside, and convert its stages."""
    with tempfile.TemporaryDirectory() as folder:
        exact = write_bundle(Path(folder) / "exact", manifest, _files(models))
        found = convert(exact, options, tell)
    provenance = {
        **manifest.provenance,
        "conversion": found.record,
        # Measured in float32.
        "accuracy": {},
    }
    source = replace(manifest.source, precision=found.precision)
    manifest = replace(manifest, source=source, provenance=provenance)
    return manifest, {**models, **found.models}


def _manifest(
    cascade: Cascade,
    options: ExportOptions,
    stages: Sequence[Stage],
    models: Mapping[str, onnx.ModelProto],
) -> Manifest:
    info = cascade.info
    deepmask = deepmask_of(cascade.proposals)
    classifies = cascade.classifier is not None
    normalisation = deepmask.trunk.normalisation
    return Manifest(
        name=options.name,
        class_names=info.class_names if classifies else (),
        preprocessing=PreprocessingSpec(
            mean=normalisation.mean, std=normalisation.std, fill=int(normalisation.fill)
        ),
        pyramid=PyramidSpec(scales=options.scales, max_side=options.max_side),
        windows=WindowSpec(size=deepmask.window, stride=STRIDE, padding=deepmask.border),
        select=SelectSpec(top_k=options.top_k, window_nms_iou=options.window_nms_iou),
        mask=MaskSpec(size=_mask_side(cascade), threshold=info.mask_threshold),
        stages={stage.name: _stage_spec(stage, models[stage.name]) for stage in stages},
        features=FeaturesSpec(
            short_side=options.short_side,
            long_side=options.long_side,
            multiple=cascade.classifier.strides[-1],
        )
        if cascade.classifier is not None
        else None,
        classify=ClassifySpec(
            delta_mean=_four(info.delta_mean),
            delta_std=_four(info.delta_std),
            class_nms_iou=options.class_nms_iou,
            max_detections=options.max_detections,
            calibration=(info.calibration[0], info.calibration[1], info.calibration[2]),
        )
        if classifies
        else None,
        plugins=_plugins(models),
        source=SourceSpec(
            networks=_networks(info), svd=tuple(options.svd), optimize=tuple(options.optimize)
        ),
        provenance={
            "tools": {
                "python": platform.python_version(),
                **{tool: metadata.version(tool) for tool in ("torch", "onnx", "onnxscript")},
            },
            "training": info.training,
            "accuracy": dict(options.accuracy),
        },
    )


def _networks(info: CascadeInfo) -> tuple[NetworkSpec, ...]:
    pairs = (info.proposals, info.proposals_sizes), (info.classifier, info.classifier_sizes)
    return tuple(NetworkSpec(name=name, sizes=dict(sizes)) for name, sizes in pairs if name)


def _mask_side(cascade: Cascade) -> int:
    deepmask = deepmask_of(cascade.proposals)
    return deepmask.window if isinstance(cascade.proposals, SharpMask) else deepmask.mask_side


def _four(values: tuple[float, ...]) -> tuple[float, float, float, float]:
    x, y, width, height = values
    return x, y, width, height


def _plugins(models: Mapping[str, onnx.ModelProto]) -> tuple[PluginSpec, ...]:
    names = {
        node.op_type
        for model in models.values()
        for node in model.graph.node
        if node.domain == DOMAIN
    }
    return tuple(PluginSpec(name=name, domain=DOMAIN, version="1") for name in sorted(names))


def _stage_spec(stage: Stage, model: onnx.ModelProto) -> StageSpec:
    return StageSpec(
        file=f"{stage.name}.onnx",
        inputs=tuple(_tensor_spec(value) for value in model.graph.input),
        outputs=tuple(
            replace(_tensor_spec(value), stride=stage.strides.get(value.name))
            for value in model.graph.output
        ),
    )


def _tensor_spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    shape = tuple(dim.dim_param or dim.dim_value for dim in tensor.shape.dim)
    return TensorSpec(name=value.name, dtype=dtype, shape=shape)


def weights_digest(cascade: Cascade) -> str:
    """Digest what the bundle holds: not the mask head of a DeepMask that SharpMask refines."""
    unused = "deepmask.mask." if isinstance(cascade.proposals, SharpMask) else "?"
    digest = hashlib.sha256()
    for network in (cascade.proposals, cascade.classifier):
        for name, tensor in sorted(network.state_dict().items() if network else ()):
            if not name.startswith(unused):
                digest.update(name.encode())
                digest.update(tensor.half().numpy().tobytes())
    return digest.hexdigest()
