# SPDX-License-Identifier: Apache-2.0
"""Imported networks as checkpoints of Foveate."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from foveate.errors import ModelError
from foveate.importing.class_names import class_names
from foveate.importing.found import Found
from foveate.models.checkpoint import (
    Cascade,
    CascadeInfo,
    Detector,
    join,
    load_checkpoint,
    save_checkpoint,
)
from foveate.models.deepmask import DeepMask
from foveate.models.multipathnet import MultiPathNet
from foveate.models.sharpmask import SharpMask
from foveate.system.files import file_digest

MASK_THRESHOLD = math.log(0.2 / 0.8)
"""The release takes pixels of a probability above 0.2 on COCO."""


def save_imported(
    found: Found,
    network: nn.Module,
    output: Path,
    *,
    source: Path,
    proposals: Path | None = None,
    names: tuple[str, ...] | None = None,
) -> Cascade | Detector:
    """Write what was found as a checkpoint, in float32, so that no number changes.

    Args:
        found: What was found.
        network: What was built of it.
        output: The checkpoint, a .safetensors file.
        source: Where it was found; its name and SHA-256 are kept.
        proposals: For a detector, a checkpoint of the DeepMask or SharpMask to join it with;
            without it the detector is written alone.
        names: Of a detector's classes, without background; those of COCO or Pascal VOC if not
            given and their number is right.

    Raises:
        ModelError: The network's parts do not fit together.
    """
    origin = {"imported from": source.name, "sha256": file_digest(source)}
    made: Cascade | Detector
    if isinstance(network, MultiPathNet):
        made = Detector(info=_detector_info(found, names, origin), classifier=network)
        if proposals is not None:
            made = join(load_checkpoint(proposals), made)
    else:
        assert isinstance(network, DeepMask | SharpMask)
        if proposals is not None or names is not None:
            raise ModelError(
                f"expected a detector, found {found.name}",
                file=source,
                remedy="leave the proposal network and the class names out",
            )
        info = CascadeInfo(
            proposals=found.name,
            proposals_sizes=dict(found.sizes),
            mask_threshold=MASK_THRESHOLD,
            training=origin,
        )
        made = Cascade(info=info, proposals=network)
    save_checkpoint(output, made, half=False)
    return made


def _detector_info(
    found: Found, names: tuple[str, ...] | None, origin: dict[str, Any]
) -> CascadeInfo:
    sizes = dict(found.sizes)
    classes = int(sizes.pop("classes"))
    names = names or class_names(classes)
    if len(names) != classes:
        raise ModelError(
            f"expected names for {classes} classes, found {len(names)}",
            remedy="give one name a line, without background",
        )
    info = CascadeInfo(
        classifier=found.name, classifier_sizes=sizes, class_names=names, training=origin
    )
    if found.delta_mean is None or found.delta_std is None:
        return info
    return replace(info, delta_mean=found.delta_mean, delta_std=found.delta_std)
