# SPDX-License-Identifier: Apache-2.0
"""Export of a trained cascade as a bundle."""

from __future__ import annotations

import copy
import hashlib
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
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
from foveate.bundle.pyramid import DEFAULT_SCALES
from foveate.bundle.schema import RejectedValueError
from foveate.errors import ModelError, OptionError
from foveate.export.execution.stage_model import DOMAIN, inline_functions
from foveate.export.execution.stages import Stage, cascade_stages, longest_bin, paste_stage
from foveate.export.model_card import model_card
from foveate.export.passes import check_passes, run_passes, truncate_towers
from foveate.export.precision import PrecisionOptions, convert
from foveate.export.to_onnx.onnx_graph import check_stage, expected_outputs, export_stage
from foveate.images.reading import read_image
from foveate.models.checkpoint import Cascade, CascadeInfo, round_to_half
from foveate.models.deepmask import STRIDE
from foveate.models.sharpmask import deepmask_of
from foveate.plain_text import printable
from foveate.progress import Progress, no_progress
from foveate.runtime.sizes import longest_level
from foveate.typed_options import TypedOptions

Models = Mapping[str, onnx.ModelProto]
"""Models by stage."""

# Twice the longest JPEG. The classifier's pooling is exported for boxes of any length up to it.
_MOST_SIDE = 1 << 17


@dataclass(frozen=True, kw_only=True)
class ExportOptions(TypedOptions):
    """Options of an export; the defaults are those of ``mini``.

    Args:
        name: Name of the bundle.
        scales: Scales of the levels of the pyramid.
        max_side: Upper bound of the longer side of the working image, in pixels.
        top_k: Number of windows that are refined; by default, that of the cascade.
        short_side: Shorter side of the image for the classifier, in pixels.
        long_side: Upper bound of the longer side of that image, in pixels.
        max_detections: Largest number of detections per image.
        accuracy: Measured figures for the model card.
        standard_ops_only: Whether Foveate operators are replaced by their function bodies.
        with_paste: Whether the stage ``paste`` is added, which turns windows into image bits.
        svd: Ranks for the linear layers of each tower; empty to leave the layers as they are.
        optimize: Names of exact optimization passes; see ``passes.PASSES``.
        precision: Precisions of the stages; float32 if not given.
    """

    name: str = "mini"
    scales: tuple[float, ...] = DEFAULT_SCALES
    max_side: int = 1024
    top_k: int | None = None
    short_side: int = 576
    long_side: int = 1024
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
        if printable(self.name) != self.name or not 0 < len(self.name) <= 1000:
            what = f"the name of a bundle must be printable, found {self.name!r:.60}"
            raise OptionError(what, remedy="pass a --name of 1 to 1000 characters")
        if not 16 <= self.max_side <= _MOST_SIDE:
            raise OptionError(f"max_side must lie in 16..{_MOST_SIDE}, found {self.max_side}")

    @classmethod
    def of_manifest(cls, manifest: Manifest) -> ExportOptions:
        """Return the options of a bundle, without its figures, which hold for that bundle only."""
        # These parts of a manifest have fields of the same names as the options.
        parts = (manifest.pyramid, manifest.select, manifest.features, manifest.classify)
        values = {name: value for part in parts if part for name, value in vars(part).items()}
        chosen = {item.name: values[item.name] for item in fields(cls) if item.name in values}
        return cls(name=manifest.name, with_paste="paste" in manifest.stages, **chosen)


def export_bundle(
    cascade: Cascade,
    directory: Path,
    options: ExportOptions | None = None,
    *,
    card: Callable[[Manifest], str] = model_card,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> Bundle:
    """Export every stage, compare it with PyTorch, and write the bundle.

    Args:
        cascade: Networks to export. They are copied, and not modified.
        directory: Directory of the bundle.
        options: Options of the export.
        card: Returns the text of the model card.
        overwrite: Whether to replace an existing bundle.
        progress: Called during the conversion to another precision.

    Returns:
        The bundle, opened and checked.

    Raises:
        OptionError: The towers cannot be truncated to the ranks of ``svd``, or the networks do not
            have a stage that ``precision`` names.
        InputError: A calibration image cannot be read.
        ModelError: The outputs of a stage in ONNX Runtime differ from PyTorch's, a stage is not
            accurate enough in its precision, or a number lies outside the range of a manifest.
    """
    options = options or ExportOptions()
    precision = options.precision
    if precision is not None and not precision.exact:
        for image in precision.images:  # before minutes of work, not after
            read_image(image)
    cascade = _rounded_copy(cascade, options)
    stages = cascade_stages(cascade, long_side=_pooled_side(cascade, options))
    if precision is not None:
        precision.check_stages([stage.name for stage in stages])
    if options.with_paste:
        stages.append(paste_stage(cascade.proposals.mask_side, cascade.info.mask_threshold))
    digest = weights_digest(cascade)
    # Before the passes, so that the files are compared with the networks as they were trained.
    expected = {stage.name: expected_outputs(stage) for stage in stages}
    saved = run_passes(cascade, options.optimize)
    exported = {stage.name: export_stage(stage) for stage in stages}
    models = _finished(exported, options)
    for stage in stages:
        check_stage(stage, models[stage.name], expected[stage.name])
    try:
        manifest = _manifest(cascade, options, stages, models)
    except RejectedValueError as error:
        what = f"the networks cannot be described in a bundle ({error})"
        remedy = "correct the options of the export, or the description in the checkpoint"
        raise ModelError(what, remedy=remedy) from error
    manifest.provenance.update({"weights_sha256": digest, "saved": saved})
    if precision is not None and not precision.exact:
        found = convert(manifest, exported, precision, progress)
        # The figures of accuracy were measured in float32.
        manifest.provenance.update({"conversion": found.record, "accuracy": {}})
        manifest = replace(manifest, source=replace(manifest.source, precision=found.precision))
        models = _finished({**exported, **found.models}, options)
    files = {f"{name}.onnx": model.SerializeToString() for name, model in models.items()}
    return write_bundle(directory, manifest, files, card=card, overwrite=overwrite)


def _pyramid(options: ExportOptions) -> PyramidSpec:
    return PyramidSpec(scales=options.scales, max_side=options.max_side)


def _features(options: ExportOptions) -> FeaturesSpec:
    return FeaturesSpec(short_side=options.short_side, long_side=options.long_side)


def _pooled_side(cascade: Cascade, options: ExportOptions) -> int:
    """Return the bound, in pixels, of the sides of the bins that ``classify`` can pool."""
    classifier = cascade.classifier
    if classifier is None or not classifier.shared_strides:
        return options.long_side  # no bin is longer than the image
    longest = longest_level(_features(options), _pyramid(options))
    return max(options.long_side, longest_bin(classifier, longest))


def _rounded_copy(cascade: Cascade, options: ExportOptions) -> Cascade:
    """Return a copy of the networks, truncated if requested, with weights rounded to float16."""
    cascade = copy.deepcopy(cascade)
    if options.svd:
        if cascade.classifier is None:
            raise OptionError(
                "--svd truncates a classifier's towers, and the checkpoint has no classifier",
                remedy="export without --svd",
            )
        truncate_towers(cascade.classifier, options.svd)
    for network in filter(None, (cascade.proposals, cascade.classifier)):
        round_to_half(network)
    return cascade


def _finished(models: Models, options: ExportOptions) -> dict[str, onnx.ModelProto]:
    finish = inline_functions if options.standard_ops_only else lambda model: model
    return {name: finish(model) for name, model in models.items()}


def _manifest(
    cascade: Cascade, options: ExportOptions, stages: Sequence[Stage], models: Models
) -> Manifest:
    info = cascade.info
    deepmask = deepmask_of(cascade.proposals)
    classifies = cascade.classifier is not None
    normalization = deepmask.trunk.normalization
    return Manifest(
        name=options.name,
        class_names=info.class_names if classifies else (),
        preprocessing=PreprocessingSpec(
            mean=normalization.mean, std=normalization.std, fill=int(normalization.fill)
        ),
        pyramid=_pyramid(options),
        windows=WindowSpec(size=deepmask.window, stride=STRIDE, padding=deepmask.border),
        select=SelectSpec(
            top_k=options.top_k or info.top_k,
            window_nms_iou=info.window_nms_iou,
            proposal_nms_iou=info.proposal_nms_iou,
        ),
        mask=MaskSpec(size=cascade.proposals.mask_side, threshold=info.mask_threshold),
        stages={stage.name: _stage_spec(stage, models[stage.name]) for stage in stages},
        features=_features(options) if classifies else None,
        classify=ClassifySpec(
            delta_mean=info.delta_mean,
            delta_std=info.delta_std,
            class_nms_iou=info.class_nms_iou,
            max_detections=options.max_detections,
            calibration=info.calibration,
        )
        if classifies
        else None,
        plugins=_plugins(models),
        source=SourceSpec(networks=_networks(info), svd=options.svd, optimize=options.optimize),
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


def _plugins(models: Models) -> tuple[PluginSpec, ...]:
    nodes = [node for model in models.values() for node in model.graph.node]
    names = sorted({node.op_type for node in nodes if node.domain == DOMAIN})
    return tuple(PluginSpec(name=name, domain=DOMAIN, version="1") for name in names)


def _stage_spec(stage: Stage, model: onnx.ModelProto) -> StageSpec:
    def spec(value: onnx.ValueInfoProto) -> TensorSpec:
        tensor = value.type.tensor_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
        shape = tuple(dim.dim_param or dim.dim_value for dim in tensor.shape.dim)
        stride = stage.strides.get(value.name)
        return TensorSpec(name=value.name, dtype=dtype, shape=shape, stride=stride)

    return StageSpec(
        file=f"{stage.name}.onnx",
        inputs=tuple(map(spec, model.graph.input)),
        outputs=tuple(map(spec, model.graph.output)),
    )


def weights_digest(cascade: Cascade) -> str:
    """Return the SHA-256 of the weights that a bundle of these networks has.

    The mask head of DeepMask does not count if SharpMask refines in its place.
    """
    digest = hashlib.sha256()
    for network in (cascade.proposals, cascade.classifier):
        for name, tensor in sorted(network.state_dict().items() if network else ()):
            if not name.startswith("deepmask.mask."):
                digest.update(name.encode())
                digest.update(tensor.half().numpy().tobytes())
    return digest.hexdigest()
