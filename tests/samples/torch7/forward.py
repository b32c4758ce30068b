# SPDX-License-Identifier: Apache-2.0
"""A run of a tree of Torch7 modules by functions of PyTorch: the expected values of the importers.

Evaluation mode; batch sizes that a View has baked in are ignored.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tests.samples.torch7.writer import T7Object


def run(module: T7Object, x: Any, taps: dict[int, Any] | None = None) -> Any:
    """Apply a module; ``taps`` receives the outputs of the modules of a Sequential, from 1."""
    fields = module.fields
    short = module.name.rpartition(".")[2]
    if short in ("Sequential", "NoBackprop", "DataParallelTable"):
        for index, child in enumerate(fields.get("modules") or [fields["inner"]], 1):
            x = run(child, x)
            if taps is not None:
                taps[index] = x
        return x
    if short in ("ConcatTable", "ModelParallelTable"):
        outputs = [run(child, x) for child in fields["modules"]]
        return torch.cat(outputs, 1) if short == "ModelParallelTable" else outputs
    if short == "ParallelTable":
        return [run(child, item) for child, item in zip(fields["modules"], x, strict=True)]
    return LAYERS[short](x, fields)


def array(fields: dict[str, Any], name: str) -> torch.Tensor | None:
    value = fields.get(name)
    return None if value is None else torch.from_numpy(np.ascontiguousarray(value))


def _conv(x: torch.Tensor, f: dict[str, Any]) -> torch.Tensor:
    weight = array(f, "weight")
    assert weight is not None
    weight = weight.reshape(f["nOutputPlane"], f["nInputPlane"], f["kH"], f["kW"])
    return F.conv2d(x, weight, array(f, "bias"), f["dW"], f["padW"])


def _linear(x: torch.Tensor, f: dict[str, Any]) -> torch.Tensor:
    weight = array(f, "weight")
    assert weight is not None
    return F.linear(x, weight, array(f, "bias"))


def _affine(x: torch.Tensor, f: dict[str, Any]) -> torch.Tensor:
    a, b = array(f, "a"), array(f, "b")
    assert a is not None
    assert b is not None
    return x * a.reshape(1, -1, 1, 1) + b.reshape(1, -1, 1, 1)


def _norm(x: torch.Tensor, f: dict[str, Any]) -> torch.Tensor:
    mean, variance = array(f, "running_mean"), array(f, "running_var")
    assert mean is not None
    return F.batch_norm(x, mean, variance, array(f, "weight"), array(f, "bias"), eps=f["eps"])


def _symmetric(x: torch.Tensor, f: dict[str, Any]) -> torch.Tensor:
    pad = f["pad_l"]
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (pad, pad), (pad, pad)), "symmetric")
    return torch.from_numpy(padded)


def _view(x: torch.Tensor, f: dict[str, Any]) -> torch.Tensor:
    size = [int(n) for n in f["size"]]
    rows: torch.Tensor = x.flatten(1) if size == [-1] else x.reshape(len(x), *size[1:])
    return rows


def _resample(x: torch.Tensor, f: dict[str, Any]) -> torch.Tensor:
    size = (f["oheight"], f["owidth"])
    return F.interpolate(x[:, None], size, mode="bilinear", align_corners=True)[:, 0]


def _roi_pool(x: Any, f: dict[str, Any]) -> torch.Tensor:
    """Pool as inn.ROIPooling does: rows of (image, x1, y1, x2, y2), all counted from 1."""
    features, rois = x
    side, v2 = f["W"], f.get("v2", False)
    pooled = torch.zeros(len(rois), features.shape[1], side, side)
    for n, roi in enumerate(rois.numpy().astype(np.float32)):
        source = features[int(roi[0]) - 1].numpy()
        scaled = _round((roi[1:] - 1) * np.float32(f["spatial_scale"]))
        bounds = [_bins(scaled[i], scaled[i + 2], side, source.shape[2 - i], v2) for i in (0, 1)]
        for i, (y0, y1) in enumerate(bounds[1]):
            for j, (x0, x1) in enumerate(bounds[0]):
                if y1 > y0 and x1 > x0:
                    pooled[n, :, i, j] = torch.from_numpy(source[:, y0:y1, x0:x1].max((1, 2)))
    return pooled


def _bins(start: float, end: float, side: int, limit: int, v2: bool) -> list[tuple[int, int]]:
    size = max(end - start + (0 if v2 else 1), 1)
    step = np.float32(size) / np.float32(side)
    low, high = (_round, _round) if v2 else (np.floor, np.ceil)
    pairs = [(low(np.float32(k * step)), high(np.float32((k + 1) * step))) for k in range(side)]

    def clipped(side: Any) -> int:
        return int(np.clip(side + start, 0, limit))

    return [(clipped(first), clipped(last)) for first, last in pairs]


def _round(x: Any) -> Any:
    return np.sign(x) * np.floor(np.abs(x) + 0.5)


def _normalize(x: torch.Tensor, _: dict[str, Any]) -> torch.Tensor:
    rows: torch.Tensor = x / (x.norm(dim=1, keepdim=True) + 1e-10)
    return rows


def _foveal(x: torch.Tensor, _: dict[str, Any]) -> torch.Tensor:
    """Return boxes of 1, 1.5, 2 and 4 times the size for each (image, x1, y1, x2, y2)."""
    low, high = x[:, 1:3], x[:, 3:5]
    boxes = [
        torch.cat([x[:, :1], low - m * (high - low), high + m * (high - low)], 1)
        for m in (0, 0.25, 0.5, 1.5)
    ]
    return torch.stack(boxes)


def _crop(x: torch.Tensor, f: dict[str, Any]) -> torch.Tensor:
    pads = (f["pad_l"], f["pad_r"], f["pad_t"], f["pad_b"])
    return F.pad(x, pads)


LAYERS: dict[str, Any] = {
    "SpatialConvolution": _conv,
    "SpatialConvolutionMM": _conv,
    "Linear": _linear,
    "ConstAffine": _affine,
    "SpatialConstDiagonal": _affine,
    "SpatialBatchNormalization": _norm,
    "SpatialSymmetricPadding": _symmetric,
    "SpatialZeroPadding": _crop,
    "SpatialMaxPooling": lambda x, f: F.max_pool2d(x, f["kW"], f["dW"], f["padW"]),
    "SpatialAveragePooling": lambda x, f: F.avg_pool2d(x, f["kW"], f["dW"]),
    "SpatialReSamplingEx": _resample,
    "SpatialUpSamplingNearest": lambda x, f: F.interpolate(x, scale_factor=f["scale_factor"]),
    "ReLU": lambda x, _: torch.relu(x),
    "Threshold": lambda x, f: F.threshold(x, f["threshold"], f["val"]),
    "CAddTable": lambda x, _: sum(x[1:], x[0]),
    "View": _view,
    "Identity": lambda x, _: x,
    "Copy": lambda x, _: x,
    "Dropout": lambda x, _: x,
    "ROIPooling": _roi_pool,
    "Normalize": _normalize,
    "MulConstant": lambda x, f: x * f["constant_scalar"],
    "JoinTable": lambda x, f: torch.cat(x, f["dimension"] - 1),
    "SelectTable": lambda x, f: x[f["index"] - 1],
    "Select": lambda x, f: x.select(f["dimension"] - 1, f["index"] - 1),
    "Narrow": lambda x, f: x.narrow(f["dimension"] - 1, f["index"] - 1, f["length"]),
    "FlattenTable": lambda x, _: _flat(x),
    "Foveal": _foveal,
}


def _flat(x: Any) -> list[torch.Tensor]:
    return [y for item in x for y in _flat(item)] if isinstance(x, list) else [x]
