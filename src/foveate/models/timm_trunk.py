# SPDX-License-Identifier: Apache-2.0
"""Models of timm (PyTorch Image Models) as trunks.

Strides are measured in a forward pass. timm lists them in ``feature_info``, but wrongly for some
models, and without the effect of padding on the sides of a map.
"""

import difflib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from foveate.errors import BackendError, MissingExtraError, ModelError
from foveate.models.deepmask import STRIDE
from foveate.models.efficientnet_lite import SamePadConv2d
from foveate.models.layers import FrozenAffine
from foveate.models.trunk import Trunk, of_unit_range
from foveate.plain_text import first_line
from foveate.system.loggers import silenced_logger

PREFIX = "timm:"
"""Beginning of the name of a trunk; the name of a model of timm follows."""

# Sides of the image that measures strides, multiples of all of them. They differ, so that a map
# with other axes is not taken for one of rows and columns.
_ROWS, _COLUMNS = 160, 256
_STRIDES = (1, 2, 4, 8, 16, 32)


class TimmTrunk(Trunk):
    """A model of timm up to its last map of a stride, with frozen batch norm.

    Of several maps of one stride, the last one is taken.

    Args:
        name: Name of the model, such as ``resnet18`` or ``convnext_atto.d2_in1k``.
        last_stride: Largest stride of a map; layers after it are not built.
        pretrained: Whether timm fetches its weights, in place of random ones.
        state: State dict of the whole model, in place of random weights.

    Attributes:
        name: Name of the model.
        last_stride: Largest stride of a map.
        pretrained_cfg: timm's description of its weights, among it ``hf_hub_id`` and ``license``.

    Raises:
        MissingExtraError: timm is not installed.
        BackendError: timm cannot be imported.
        ModelError: timm has no such model; it has no map of stride 16, or does not take images of
            all sizes; its weights cannot be fetched, or ``state`` is of another model.
    """

    def __init__(
        self,
        name: str,
        *,
        last_stride: int,
        pretrained: bool = False,
        state: Mapping[str, Tensor] | None = None,
    ):
        super().__init__()
        self.name = name
        self.last_stride = last_stride
        options: dict[str, Any] = {"pretrained": pretrained}
        # A checkpoint is read on the meta device, on which nothing can be measured, and where
        # buffers that no checkpoint stores would stay without values.
        with torch.device("cpu"):
            timm = _import_timm()
            _require_model(timm, name)
            if state is not None:
                _require_weights(timm.create_model(name), state)
                overlay = {"state_dict": dict(state)}
                options = {"pretrained": True, "pretrained_cfg_overlay": overlay}
            places = _measure(_create(timm, name), last_stride)
            model = _create(timm, name, out_indices=tuple(places.values()), **options)
            _freeze(model)
            _fix_padding(model, timm.layers.Conv2dSame)
        self.channels = dict(zip(places, model.feature_info.channels(), strict=True))
        self.pretrained_cfg: Mapping[str, Any] = model.pretrained_cfg
        self.normalization = of_unit_range(
            model.pretrained_cfg["mean"], model.pretrained_cfg["std"]
        )
        self.model = model

    def forward(self, image: Tensor) -> dict[int, Tensor]:
        """Compute the maps; see ``Trunk``."""
        return dict(zip(self.channels, self.model(image), strict=True))


def _import_timm() -> Any:
    try:
        import timm  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "timm", "timm") from error
    except (ImportError, RuntimeError) as error:
        raise BackendError(
            f"timm cannot be imported ({first_line(error)})",
            remedy="install the torchvision that fits torch, from the same index as torch",
        ) from error
    return timm


def _require_model(timm: Any, name: str) -> None:
    # Other names, such as hf-hub:owner/model, would let a checkpoint fetch a model from anywhere.
    known = timm.list_models(include_tags="." in name)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        raise ModelError(
            f"timm {timm.__version__} has no model {name!r}",
            remedy=f"use {' or '.join(near)}" if near else "timm.list_models() lists them",
        )


def _require_weights(model: Any, state: Mapping[str, Tensor]) -> None:
    """Check that a state dict has all weights of a model and no others, except the classifier's."""
    # timm itself loads what fits, and leaves the rest random.
    classifier = model.pretrained_cfg.get("classifier") or ()
    heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    expected, found = (
        {
            key: tuple(tensor.shape)
            for key, tensor in one.items()
            if not key.startswith(tuple(f"{head}." for head in heads))
            and not key.endswith("num_batches_tracked")
        }
        for one in (model.state_dict(), state)
    )
    for key in {**expected, **found}:
        if expected.get(key) != found.get(key):
            wanted = f"shape {expected[key]}" if key in expected else "no such weights"
            raise ModelError(
                f"expected {wanted} for {key}, found {found.get(key, 'none')}",
                remedy="pass the state dict of the whole model, with timm's names",
            )


def _create(timm: Any, name: str, **options: Any) -> Any:
    """Return the part of a model that computes maps."""
    try:
        # It warns about the weights of the layers that are left out.
        with silenced_logger("timm.models._builder"):
            return timm.create_model(name, features_only=True, **options)
    except Exception as error:  # the errors of models, of the hub and of connections share no class
        what, remedy = f"{PREFIX}{name} computes no maps", "use a convolutional model"
        if options.get("pretrained"):
            what = f"the weights of {PREFIX}{name} cannot be fetched"
            remedy = "check the connection, or pass a file of them with --trunk-weights"
        raise ModelError(f"{what} ({first_line(error)})", remedy=remedy) from error


def _measure(model: Any, last_stride: int) -> dict[int, int]:
    """Return timm's index of the last map of each stride, in the order of the maps."""
    name = model.pretrained_cfg["architecture"]
    try:
        with torch.inference_mode():
            maps = model.eval()(torch.zeros(1, 3, _ROWS, _COLUMNS))
    except Exception as error:  # models raise any class: assertions, or shapes that do not match
        raise ModelError(
            f"{PREFIX}{name} takes no images of {_ROWS} x {_COLUMNS} pixels ({first_line(error)})",
            remedy="use a convolutional model: many transformers take one size only",
        ) from error
    sides = [tuple(one.shape[2:]) for one in maps]
    places = {
        stride: index
        for index, one in zip(model.feature_info.out_indices, sides, strict=True)
        for stride in _STRIDES
        if one == (_ROWS // stride, _COLUMNS // stride)
    }
    if STRIDE not in places:
        listed = ", ".join(f"{rows} x {columns}" for rows, columns in sides)
        found = ", ".join(str(stride) for stride in places) or "none"
        raise ModelError(
            f"expected {PREFIX}{name} to have a map of stride {STRIDE}, found strides {found}: maps "
            f"of {listed} cells for an image of {_ROWS} x {_COLUMNS} pixels",
            remedy="use a model whose stages have strides 4, 8, 16 and 32",
        )
    return {stride: index for stride, index in places.items() if stride <= last_stride}


def _freeze(module: nn.Module) -> None:
    """Replace each batch norm with the affine map that it is in evaluation mode."""
    # As in the original networks: batches of windows have other statistics than whole images.
    for name, child in module.named_children():
        if not isinstance(child, nn.BatchNorm2d):
            _freeze(child)
            continue
        assert child.running_mean is not None
        assert child.running_var is not None
        affine = FrozenAffine(child.num_features)
        with torch.no_grad():
            affine.scale.copy_(child.weight * torch.rsqrt(child.running_var + child.eps))
            affine.shift.copy_(child.bias - child.running_mean * affine.scale)
        # timm has classes that are a batch norm and the activation after it.
        after = [one for one in child.children() if not isinstance(one, nn.Identity)]
        setattr(module, name, nn.Sequential(affine, *after) if after else affine)


def _fix_padding(module: nn.Module, same: type[nn.Conv2d]) -> None:
    """Replace convolutions that compute their padding from the size of their input.

    The padding is constant for inputs that the stride divides. As a function of the size, it keeps an
    export busy for minutes.
    """
    for name, child in module.named_children():
        if not isinstance(child, same):
            _fix_padding(child, same)
        elif child.dilation == (1, 1) and child.kernel_size[0] >= child.stride[0]:
            kernel, stride = child.kernel_size[0], child.stride[0]
            fixed = SamePadConv2d(
                child.in_channels, child.out_channels, kernel, stride, child.groups
            )
            fixed.weight, fixed.bias = child.weight, child.bias
            setattr(module, name, fixed)
