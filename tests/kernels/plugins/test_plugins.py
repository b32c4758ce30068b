# SPDX-License-Identifier: Apache-2.0
"""The TensorRT plugins, called by a mock host through the interfaces of the real headers."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from tests.kernels.plugins.mock_host import host as mock
from tests.kernels.plugins.mock_host.host import EVERY, Field, Library, Tensor

from foveate.kernels.plugins.bilinear_upsample import reference as upsampling
from foveate.kernels.plugins.roi_max_pool.reference import ROUNDINGS, roi_max_pool

MISSING = mock.what_is_missing()
pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)

POOL, UPSAMPLE = "RoiMaxPool2d", "BilinearUpsample2d"
SHAPE, SCALE = Field("pooled_shape", [7, 5]), Field("spatial_scale", 0.0625)
MAP, ROIS, POOLED = (
    Tensor((1, 8, 20, 30), format=mock.HWC),
    Tensor((9, 5)),
    Tensor((9, 8, 7, 5), format=mock.HWC),
)
WINDOWS = (Field("mode", "windows"), Field("threshold", -0.5))


# --- creators and fields ---------------------------------------------------------------------


def test_creators_have_the_names_version_and_namespace_of_the_nodes(library: Library) -> None:
    assert library.creators() == [
        "PLUGIN CREATOR_V3ONE | RoiMaxPool2d | 1 | foveate",
        "PLUGIN CREATOR_V3ONE | BilinearUpsample2d | 1 | foveate",
    ]


def test_creators_name_their_fields(library: Library) -> None:
    assert library.field_names(POOL) == [
        "pooled_shape 5 2",
        "spatial_scale 1 1",
        "rounding 5 1",
        "tables 5 1",
    ]
    assert library.field_names(UPSAMPLE) == ["scale 5 1", "mode 6 0", "relu 5 1", "threshold 1 1"]


def test_a_plugin_returns_its_name_version_and_namespace(library: Library) -> None:
    assert library.made(POOL, SHAPE, SCALE).identity() == "PLUGIN | RoiMaxPool2d | 1 | foveate"
    for fields in ((Field("scale", 2),), WINDOWS):
        plugin = library.made(UPSAMPLE, *fields)
        assert plugin.identity() == "PLUGIN | BilinearUpsample2d | 1 | foveate"


def test_missing_fields_have_their_defaults(library: Library) -> None:
    assert library.made(POOL, SHAPE, SCALE).serialized() == [
        "pooled_shape 5 2 7 5",
        "spatial_scale 1 1 0.062500",
        "rounding 5 1 0",
        "tables 5 1 0",
    ]
    assert library.made(UPSAMPLE, Field("scale", 2)).serialized() == [
        "scale 5 1 2",
        "mode 6 10 half_pixel",
        "relu 5 1 0",
    ]


def test_integers_may_have_64_bits(library: Library) -> None:
    plugin = library.made(POOL, Field("pooled_shape", [7, 5], "int64"), SCALE)
    assert plugin.serialized()[0] == "pooled_shape 5 2 7 5"


def test_fields_by_which_tensorrt_chooses_a_plugin_are_ignored(library: Library) -> None:
    library.made(UPSAMPLE, Field("scale", 2), Field("plugin_version", "1"))
    library.made(UPSAMPLE, *WINDOWS, Field("tensorrt_plugin_shape_input_indices", [3]))


@pytest.mark.parametrize(
    ("op", "fields", "text"),
    [
        (POOL, (SHAPE,), "field spatial_scale to be a finite float32 above 0, found none"),
        (POOL, (SCALE,), "field pooled_shape to be 2 integer(s) from 1 to 1024, found none"),
        (
            POOL,
            (Field("pooled_shape", [7]), SCALE),
            "2 integer(s) from 1 to 1024, found 1 value(s) of field type 5",
        ),
        (POOL, (Field("pooled_shape", [7, 0]), SCALE), "from 1 to 1024, found 0"),
        (POOL, (Field("pooled_shape", [7.0, 7.0]), SCALE), "found 2 value(s) of field type 1"),
        (POOL, (Field("pooled_shape", [7, 2**40], "int64"), SCALE), "found 1099511627776"),
        (POOL, (SHAPE, Field("spatial_scale", np.nan)), "above 0, found nan"),
        (POOL, (SHAPE, Field("spatial_scale", 0.0)), "above 0, found 0.000000"),
        (POOL, (SHAPE, Field("spatial_scale", 0.5, "float64")), "1 value(s) of field type 2"),
        (
            POOL,
            (SHAPE, SCALE, Field("rounding", 2)),
            "field rounding to be 1 integer(s) from 0 to 1",
        ),
        (
            POOL,
            (SHAPE, SCALE, Field("round", 1)),
            "the fields pooled_shape, spatial_scale, rounding, tables, found round",
        ),
        (UPSAMPLE, (Field("scale", 0),), "field scale to be 1 integer(s) from 1 to 64, found 0"),
        (UPSAMPLE, (Field("scale", 2.0),), "found 1 value(s) of field type 1"),
        (
            UPSAMPLE,
            (Field("scale", 2), Field("mode", "cubic")),
            "field mode to be one of half_pixel align_corners windows, found cubic",
        ),
        (UPSAMPLE, WINDOWS[:1], "field threshold to be a finite float32, found none"),
        (
            UPSAMPLE,
            (WINDOWS[0], Field("threshold", -np.inf)),
            "field threshold to be a finite float32, found -inf",
        ),
        (UPSAMPLE, (*WINDOWS, Field("scale", 2)), "the fields mode, threshold, found scale"),
        (UPSAMPLE, (Field("scale", 2), WINDOWS[1]), "scale, mode, relu, found threshold"),
        (UPSAMPLE, (*WINDOWS, Field("tensorrt_plugin", 2)), "threshold, found tensorrt_plugin"),
        (UPSAMPLE, (Field("scale", 2), Field("mode", 1)), "1 value(s) of field type 5"),
    ],
)
def test_wrong_fields_are_refused_with_what_was_expected_and_found(
    op: str, fields: tuple[Field, ...], text: str, library: Library
) -> None:
    assert library.create(op, *fields) is None
    assert re.match(rf"E foveate::{op}: expected .*{re.escape(text)}", library.log())


# --- serializing and cloning -----------------------------------------------------------------

# No two options of a plugin have the same value here, so that none can stand for another.
OPTIONED = [
    (POOL, (SHAPE, SCALE, Field("rounding", 1)), "5 1 1 / 5 1 0"),
    (POOL, (SHAPE, SCALE, Field("tables", 1)), "5 1 0 / 5 1 1"),
    (UPSAMPLE, (Field("scale", 3), Field("mode", "align_corners")), "6 13 align_corners / 5 1 0"),
    (UPSAMPLE, (Field("scale", 3), Field("relu", 1)), "6 10 half_pixel / 5 1 1"),
    (UPSAMPLE, WINDOWS, "6 7 windows / 1 1 -0.500000"),
]


@pytest.mark.parametrize(("op", "fields", "last"), OPTIONED)
def test_a_plugin_restored_from_its_fields_is_the_same(
    op: str, fields: tuple[Field, ...], last: str, library: Library
) -> None:
    plugin = library.made(op, *fields)
    before = plugin.serialized()
    restored = plugin.restore()
    del plugin
    assert restored.serialized() == before
    assert " / ".join(line.partition(" ")[2] for line in before[-2:]) == last


@pytest.mark.parametrize(("op", "fields", "last"), OPTIONED)
@pytest.mark.parametrize("way", ["clone", "attach"])
def test_a_clone_outlives_its_plugin(
    way: str, op: str, fields: tuple[Field, ...], last: str, library: Library
) -> None:
    plugin = library.made(op, *fields)
    before = plugin.serialized()
    clone = getattr(plugin, way)()
    # The fields of the clone point into the clone, not into the plugin that is destroyed here.
    del plugin
    other = [library.made(POOL, Field("pooled_shape", [3, 3]), SCALE) for _ in range(8)]
    assert clone.serialized() == before
    assert clone.identity().split(" | ")[1] == op
    del other


# --- shapes ----------------------------------------------------------------------------------


def test_pooling_has_as_many_results_as_regions_whatever_their_number(library: Library) -> None:
    plugin = library.made(POOL, SHAPE, SCALE)
    assert plugin.shape(Tensor((-1, 256, -1, -1)), Tensor((-1, 5))) == "i1d0 256 7 5"
    assert plugin.shape(Tensor((2, -1, 8, 8)), Tensor((0, 5))) == "0 i0d1 7 5"


def test_upsampling_multiplies_the_sides(library: Library) -> None:
    plugin = library.made(UPSAMPLE, Field("scale", 2))
    unknown = Tensor((-1, 16, -1, -1))
    assert plugin.shape(unknown) == plugin.shape(unknown, unknown) == "i0d0 16 (i0d2*2) (i0d3*2)"


@pytest.mark.parametrize(
    ("op", "inputs", "text"),
    [
        (
            POOL,
            [(1, 8, 20, 30)],
            "features (N, C, H, W) and rois (R, 5), found 1 input(s) of rank 4",
        ),
        (POOL, [(8, 20, 30), (9, 5)], "found 2 input(s) of rank 3 2"),
        (POOL, [(1, 8, 20, 30), (9, 4)], "rois (R, 5), found (R, 4)"),
        (UPSAMPLE, [(8, 20, 30)], "one or two maps (N, C, H, W), found 1 input(s) of rank 3"),
        (UPSAMPLE, [(1, 8, 2, 3)] * 3, "found 3 input(s) of rank 4 4 4"),
    ],
)
def test_inputs_of_the_wrong_rank_are_refused(
    op: str, inputs: list[tuple[int, ...]], text: str, library: Library
) -> None:
    fields = (SHAPE, SCALE) if op == POOL else (Field("scale", 2),)
    plugin = library.made(op, *fields)
    assert plugin.shape(*map(Tensor, inputs)) == ""
    assert text in library.log()


# --- types and formats -----------------------------------------------------------------------


def test_pooling_supports_channels_last_and_regions_in_float32(library: Library) -> None:
    plugin = library.made(POOL, SHAPE, SCALE)
    maps = [
        (kind, form)
        for kind, form in EVERY
        if plugin.supports(0, Tensor((1, 8, 20, 30), kind, form), ROIS, POOLED)
    ]
    assert maps == [(mock.FLOAT32, mock.HWC), (mock.FLOAT16, mock.HWC8)]
    for kind, form in maps:
        features = Tensor((1, 8, 20, 30), kind, form)
        rois = [one for one in EVERY if plugin.supports(1, features, Tensor((9, 5), *one), POOLED)]
        assert rois == [(mock.FLOAT32, mock.LINEAR)]
        outputs = [
            one for one in EVERY if plugin.supports(2, features, ROIS, Tensor((9, 8, 7, 5), *one))
        ]
        assert outputs == [(kind, form)]
        assert plugin.output_types(kind, mock.FLOAT32) == [kind]


def test_upsampling_supports_planes_of_one_type(library: Library) -> None:
    plugin = library.made(UPSAMPLE, Field("scale", 2))
    shape = (1, 8, 20, 30)
    for first in (mock.FLOAT32, mock.FLOAT16):
        for place in (1, 2):
            found = []
            for one in EVERY:
                tensors = [Tensor(shape, first)] * 3
                tensors[place] = Tensor(shape, *one)
                found += [one] if plugin.supports(place, *tensors) else []
            assert found == [(first, mock.LINEAR)]
        assert plugin.output_types(first) == [first]
    kinds = [one for one in EVERY if plugin.supports(0, Tensor(shape, *one), Tensor(shape))]
    assert kinds == [(mock.FLOAT32, mock.LINEAR), (mock.FLOAT16, mock.LINEAR)]


@pytest.mark.parametrize("call", ["configure", "change_shape"])
def test_invalid_tensors_are_refused_before_a_run(call: str, library: Library) -> None:
    pool = library.made(POOL, SHAPE, SCALE)
    upsample = library.made(UPSAMPLE, Field("scale", 2))
    plane, half = Tensor((1, 8, 20, 30)), Tensor((1, 8, 40, 60), mock.FLOAT16)
    assert getattr(pool, call)(MAP, ROIS, POOLED) == 0
    assert getattr(upsample, call)(plane, plane, Tensor((1, 8, 40, 60))) == 0
    assert library.log() == ""
    wide = Tensor((1, 8, 20, 2049))
    for plugin, tensors, text in [
        (pool, (plane, ROIS, POOLED), "format 2, found float32 (1, 8, 20, 30) in format 0"),
        (pool, (MAP, Tensor((9, 4)), POOLED), "rois (R, 5) float32, found float32 (9, 4)"),
        (pool, (MAP, POOLED), "2 inputs, found 1"),
        (pool, (MAP, ROIS, half), "an output like the features, float32"),
        (pool, (Tensor((1, 8, 1, 2**25), format=8), ROIS, POOLED), "lengths below 33554432"),
        (upsample, (plane, half), "all tensors like the first, float32"),
        (upsample, (plane, Tensor((1, 8, 20, 31)), Tensor((1, 8, 40, 60))), "of the first's shape"),
        (upsample, (wide, wide), "an output at most 4096 wide, found 2049 x 2"),
    ]:  # fmt: skip
        assert getattr(plugin, call)(*tensors) != 0, text
        assert text in library.log()


def test_only_pooling_from_tables_needs_a_workspace(library: Library) -> None:
    half = Tensor((2, 12, 20, 30), mock.FLOAT16, mock.HWC8)
    direct = library.made(POOL, SHAPE, SCALE)
    tables = library.made(POOL, SHAPE, SCALE, Field("tables", 1))
    assert direct.workspace(MAP, ROIS, POOLED) == 0
    assert tables.workspace(MAP, ROIS, POOLED) == 3 * 4 * 8 * 20 * 30
    # 12 channels are stored as 16; each table starts at a multiple of 256 bytes.
    assert tables.workspace(half, ROIS, POOLED) == 3 * (-(-2 * 2 * 16 * 20 * 30 // 256) * 256)
    upsample = library.made(UPSAMPLE, Field("scale", 2))
    assert upsample.workspace(Tensor((1, 8, 20, 30)), Tensor((1, 8, 40, 60))) == 0


# --- running, on the CPU ---------------------------------------------------------------------


def stored(features: np.ndarray[Any, Any], kind: int) -> np.ndarray[Any, Any]:
    """Return (N, C, H, W) as TensorRT stores it in kHWC or kHWC8."""
    last = np.moveaxis(features, 1, -1)
    padding = -features.shape[1] % 8 if kind == mock.FLOAT16 else 0
    return np.ascontiguousarray(np.pad(last, [(0, 0)] * 3 + [(0, padding)]))


@pytest.mark.parametrize("tables", [0, 1])
@pytest.mark.parametrize("rounding", [0, 1])
@pytest.mark.parametrize("kind", [mock.FLOAT32, mock.FLOAT16])
def test_pooling_gives_the_bits_of_the_reference(
    kind: int, rounding: int, tables: int, running: Library
) -> None:
    rng = np.random.default_rng(5)
    dtype, form = ((np.float32, mock.HWC), (np.float16, mock.HWC8))[kind]
    features: np.ndarray[Any, Any] = rng.standard_normal((2, 12, 25, 31)).astype(dtype)
    corners = np.sort(rng.uniform(-40, 540, (40, 2, 2)), axis=1).reshape(40, 4)
    rois = np.concatenate([rng.integers(0, 2, (40, 1)), corners], axis=1).astype(np.float32)
    expected = roi_max_pool(features, rois, (7, 5), 0.0625, ROUNDINGS[rounding])
    fields = (SHAPE, SCALE, Field("rounding", rounding), Field("tables", tables))
    plugin = running.made(POOL, *fields).restore().attach()
    tensors = [
        Tensor(features.shape, kind, form),
        Tensor(rois.shape),
        Tensor(expected.shape, kind, form),
    ]
    assert plugin.change_shape(*tensors) == 0
    memory = stored(features, kind)
    output = np.full(stored(expected, kind).shape, np.nan, dtype)
    workspace = np.full(max(plugin.workspace(*tensors), 1), 0xFF, np.uint8)
    assert plugin.enqueue(tensors, [memory, rois], [output], workspace) == 0
    np.testing.assert_array_equal(output, stored(expected, kind))


@pytest.mark.parametrize("mode", ["half_pixel", "align_corners"])
@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("kind", [mock.FLOAT32, mock.FLOAT16])
def test_upsampling_agrees_with_the_reference(
    kind: int, second: bool, mode: str, running: Library
) -> None:
    rng = np.random.default_rng(6)
    dtype = (np.float32, np.float16)[kind]
    maps = [rng.standard_normal((2, 3, 9, 13)).astype(dtype) for _ in range(1 + second)]
    expected = upsampling.upsample(
        np.sum(np.asarray(maps, np.float64), axis=0),
        27,
        39,
        align_corners=mode == "align_corners",
        relu=second,
    )
    fields = (Field("scale", 3), Field("mode", mode), Field("relu", int(second)))
    plugin = running.made(UPSAMPLE, *fields)
    tensors = [*(Tensor(one.shape, kind) for one in maps), Tensor(expected.shape, kind)]
    assert plugin.change_shape(*tensors) == 0
    output = np.full(expected.shape, np.nan, dtype)
    assert plugin.enqueue(tensors, maps, [output]) == 0
    np.testing.assert_allclose(output, expected, rtol=0, atol=(2e-5, 4e-3)[kind])


def test_without_regions_nothing_is_launched(library: Library) -> None:
    plugin = library.made(POOL, SHAPE, SCALE)
    tensors = [MAP, Tensor((0, 5)), Tensor((0, 8, 7, 5), format=mock.HWC)]
    assert plugin.change_shape(*tensors) == 0
    assert plugin.enqueue(tensors, [None, None], [None]) == 0


def test_a_status_of_the_launch_is_returned_and_logged(library: Library) -> None:
    plugin = library.made(POOL, SHAPE, SCALE)
    assert plugin.change_shape(MAP, ROIS, POOLED) == 0
    assert plugin.enqueue([MAP, ROIS, POOLED], [None, None], [None]) == -1
    assert library.log() == (
        "E foveate::RoiMaxPool2d: expected a launch, found a null array that would be read or "
        "written (-1)\n"
    )
