# SPDX-License-Identifier: Apache-2.0
"""The compiled part of the host against the numpy versions beside it, which it must equal."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from foveate.errors import BackendError, OptionError
from foveate.kernels import host_library
from foveate.kernels.bilinear_upsample.window import Window
from foveate.kernels.bilinear_upsample.window_mask import WindowMask
from foveate.kernels.compiling import CodeCache
from foveate.kernels.nms import host as nms
from foveate.kernels.nms.in_numpy import suppress_sorted
from foveate.kernels.roi_max_pool import ROUNDINGS, reference
from foveate.kernels.roi_max_pool import host as pooling


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a user's cache is, with the library in it."""
    try:
        host_library.find_compiler()
    except BackendError:
        pytest.skip("needs a C++ compiler")
    folder = tmp_path_factory.mktemp("cache")
    host_library.build_host_library(CodeCache(folder / "kernels"))
    return folder


@pytest.fixture
def library(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ctypes.CDLL]:
    monkeypatch.setenv("FOVEATE_CACHE", str(cache))
    host_library.host_library.cache_clear()
    found = host_library.host_library()
    assert found is not None
    yield found
    host_library.host_library.cache_clear()


def random_boxes(generator: np.random.Generator, count: int) -> np.ndarray:
    """Some without area, some equal, some that touch, on a coarse grid."""
    corners = generator.integers(-5, 40, (count, 2)) / 2
    sides = generator.integers(-1, 20, (count, 2)) / 2
    return np.concatenate([corners, corners + sides], axis=1).astype(np.float32)


@pytest.mark.parametrize("seed", range(30))
def test_suppression_is_the_same_compiled_and_in_numpy(library: ctypes.CDLL, seed: int) -> None:
    generator = np.random.default_rng(seed)
    count = int(generator.integers(0, 300))
    boxes = random_boxes(generator, count)
    groups = generator.integers(0, 3, count) if seed % 2 else None
    solid = np.all(boxes[:, 2:] > boxes[:, :2], axis=1)
    boxes, groups = boxes[solid], None if groups is None else groups[solid]
    for iou, limit in ((0.0, 300), (1 / 3, 20), (0.5, 300), (0.99, 1)):
        arguments = (boxes, groups, iou, limit)
        compiled = nms._suppress_compiled(library, *arguments)
        np.testing.assert_array_equal(compiled, suppress_sorted(*arguments))


def test_infinite_and_huge_boxes_are_suppressed_alike(library: ctypes.CDLL) -> None:
    inf, huge = np.inf, 3e38
    rows = [[0, 0, inf, 5], [-inf, -inf, inf, inf], [0, 0, huge, huge], [-huge, 0, huge, 9]]
    boxes = np.array([*rows, [0, 0, 4, 4], [0, 0, 5, 4]], np.float32)
    arguments = (boxes, None, 0.5, 6)
    compiled = nms._suppress_compiled(library, *arguments)
    np.testing.assert_array_equal(compiled, suppress_sorted(*arguments))


def test_the_public_way_takes_the_library_that_is_there(
    library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nms, "suppress_sorted", None)
    monkeypatch.setattr(pooling, "_pool_in_numpy", None)
    boxes = np.array([[0, 0, 4, 4], [0, 0, 4, 3], [9, 9, 12, 12]], np.float32)
    scores = np.array([1, 2, 3], np.float32)
    assert nms.suppress(boxes, scores, None, 0.5, 3).tolist() == [2, 1]
    pooled = pooling.roi_max_pool(
        np.ones((1, 2, 3, 4), np.float32), np.zeros((1, 5), np.float32), 1, 1.0
    )
    assert pooled.tolist() == [[[[1]], [[1]]]]


@pytest.mark.parametrize("seed", range(40))
def test_painted_masks_are_the_same_compiled_and_in_numpy(library: ctypes.CDLL, seed: int) -> None:
    generator = np.random.default_rng(seed)
    logits = generator.standard_normal((12, 12)).astype(np.float32) + np.float32(seed % 3 - 1)
    left, top = generator.integers(-30, 30, 2).tolist()
    width, height = generator.integers(1, 90, 2).tolist()
    mask = WindowMask(
        logits,
        Window(left, top, width, height),
        threshold=0.1,
        picture_height=40,
        picture_width=50,
    )
    x0, y0, x1, y1 = mask.box()
    painted = np.zeros((2, 40, 50), bool)
    mask._paint_compiled(library, painted[0, y0:y1, x0:x1], y0, x0)
    mask._paint_in_numpy(painted[1, y0:y1, x0:x1], y0, x0)
    np.testing.assert_array_equal(painted[0], painted[1])
    assert painted[0].sum() == mask.area()


def regions(generator: np.random.Generator, count: int, maps: int) -> np.ndarray:
    """Regions inside, outside, turned round, of no map, and without numbers."""
    corners = generator.uniform(-20, 90, (count, 2))
    rois = np.concatenate(
        [
            generator.integers(-1, maps + 1, (count, 1)),
            corners,
            corners + generator.uniform(-10, 90, (count, 2)),
        ],
        axis=1,
    ).astype(np.float32)
    rois[::11, generator.integers(0, 5)] = generator.choice([np.nan, np.inf, -np.inf])
    return rois


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("seed", range(12))
def test_pooling_is_the_reference_compiled_and_in_numpy(
    library: ctypes.CDLL, seed: int, rounding: str
) -> None:
    generator = np.random.default_rng(seed)
    maps, channels, height, width = generator.integers(1, 14, 4).tolist()
    features = generator.standard_normal((maps, channels, height, width)).astype(np.float32)
    features[generator.random(features.shape) < 0.02] = np.nan
    rois = regions(generator, 40, maps)
    size, scale = ((1, 5), (7, 7), (3, 2))[seed % 3], (1.0, 1 / 16, 0.3)[seed % 3]
    want = reference.roi_max_pool(features, rois, size, scale, rounding)
    np.testing.assert_array_equal(
        pooling._pool_in_numpy(features, rois, size, scale, rounding), want
    )
    for threads in (1, 3):
        found = pooling._pool_compiled(library, features, rois, size, scale, rounding, threads)
        np.testing.assert_array_equal(found, want)


@pytest.mark.parametrize("shape", [(1, 2, 0, 5), (1, 0, 4, 4), (0, 3, 4, 4)])
def test_maps_without_pixels_pool_to_zeros(
    library: ctypes.CDLL, shape: tuple[int, int, int, int]
) -> None:
    features, rois = np.ones(shape, np.float32), np.zeros((2, 5), np.float32)
    for pooled in (
        pooling._pool_in_numpy(features, rois, (2, 2), 1.0, "caffe"),
        pooling._pool_compiled(library, features, rois, (2, 2), 1.0, "caffe", 4),
    ):
        assert pooled.shape == (2, shape[1], 2, 2)
        assert not pooled.any()


def test_no_regions_are_no_error(library: ctypes.CDLL) -> None:
    features = np.ones((1, 2, 3, 3), np.float32)
    assert pooling.roi_max_pool(features, np.zeros((0, 5), np.float32), 7, 1.0).shape == (
        0,
        2,
        7,
        7,
    )


def test_wrong_shapes_and_roundings_are_refused() -> None:
    features = np.ones((1, 2, 3, 3), np.float32)
    with pytest.raises(OptionError, match="rounding must be one of caffe, v2, found 'up'"):
        pooling.roi_max_pool(features, np.zeros((1, 5), np.float32), 7, 1.0, "up")
    with pytest.raises(OptionError, match=r"rois \(R, 5\), found .* and \(1, 4\)"):
        pooling.roi_max_pool(features, np.zeros((1, 4), np.float32), 7, 1.0)


def test_a_damaged_library_is_not_loaded(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOVEATE_CACHE", str(cache))
    (path,) = (cache / "kernels").glob("*.so")
    whole = path.read_bytes()
    # Replaced, not overwritten: other tests have the file mapped, and would end in a crash.
    path.unlink()
    path.write_bytes(whole[: len(whole) // 2])
    host_library.host_library.cache_clear()
    assert host_library.host_library() is None
    path.unlink()
    path.write_bytes(whole)
    host_library.host_library.cache_clear()


def test_another_processor_does_not_take_it(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_library, "_processor", lambda: ["another"])
    assert CodeCache(cache / "kernels").find(host_library._key(), "so") is None


def test_without_a_compiler_the_error_says_that_it_is_optional(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(BackendError, match="none of no-such-compiler is on the PATH.*optional"):
        host_library.build_host_library()
