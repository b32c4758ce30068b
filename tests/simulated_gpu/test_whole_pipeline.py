# SPDX-License-Identifier: Apache-2.0
"""The whole pipeline on a simulated GPU, with every kernel executed, against the pipeline on the CPU."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tests.runtime.devices.opened import GPUS, simulated_gpu
from tests.samples.networks import NARROW, narrow
from tests.samples.plans import TENSORRT, write_plans
from tests.samples.verified_bundles import stage_files
from tests.simulated_gpu.driver.simulation import Simulation
from tests.simulated_gpu.tensorrt import SimulatedTensorRT

from foveate.arrays import UInt8Array
from foveate.bundle import Bundle, FeaturesSpec, PyramidSpec, SelectSpec, write_bundle
from foveate.export.bundle_export import ExportOptions, export_bundle
from foveate.export.to_onnx.bundle_weights import cascade_from_bundle
from foveate.models.checkpoint import Cascade, CascadeInfo
from foveate.models.multipathnet import MultiPathNet
from foveate.models.sharpmask import SharpMask
from foveate.results.detections import Detections, Proposals
from foveate.runtime import PipelineOptions
from foveate.runtime.devices import CpuDevice, Device
from foveate.runtime.engines import tensorrt as module
from foveate.runtime.engines.tensorrt import open_tensorrt_engines
from foveate.runtime.loading import open_engines
from foveate.runtime.pipeline import Pipeline
from foveate.runtime.sizes import Sizes

SIZES = ((128, 96), (96, 128), (75, 100))  # width and height
OPTIONS = PipelineOptions(top_k=16, max_side=256, score_threshold=0.02)


def noise_with_disc(width: int, height: int) -> UInt8Array:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    image = cv2.GaussianBlur(noise, (9, 9), 3)
    cv2.circle(image, (width // 2, height // 2), 25, (220, 60, 40), -1)
    return np.asarray(image)


@contextmanager
def opened(
    bundle: Bundle, device: Device, simulation: Simulation | None, options: PipelineOptions
) -> Iterator[Pipeline]:
    if simulation is None:
        engines = open_engines(bundle, device, threads=1)
    else:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, "tensorrt", SimulatedTensorRT(simulation))
            patch.setattr(module, "find_runtime", lambda _: TENSORRT)
            engines = open_tensorrt_engines(bundle, device, "tensorrt")
    with Pipeline(bundle, engines, device=device, options=options) as pipeline:
        yield pipeline


def executing(device: str, seed: int = 0) -> Any:
    return simulated_gpu(device, seed=seed, run_kernels=True, capacity=1 << 28)


def assert_same_detections(found: Detections, want: Detections) -> None:
    np.testing.assert_array_equal(found.labels, want.labels)
    # Scores that rate the mask are sums, whose order depends on the number of rows at once.
    np.testing.assert_allclose(found.scores, want.scores, rtol=1e-6)
    np.testing.assert_array_equal(found.proposals, want.proposals)
    np.testing.assert_allclose(found.boxes, want.boxes, atol=1e-4)
    assert found.masks.rle() == want.masks.rle()


def assert_same_proposals(found: Proposals, want: Proposals) -> None:
    # Scores that rate the mask are sums, whose order depends on the number of rows at once.
    np.testing.assert_allclose(found.scores, want.scores, rtol=1e-6)
    np.testing.assert_allclose(found.boxes, want.boxes, atol=1e-4)
    assert found.masks.rle() == want.masks.rle()


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return mini, which rates the masks."""
    shipped = Bundle.open("mini")
    cascade = cascade_from_bundle(shipped)
    cascade = replace(cascade, info=replace(cascade.info, mask_scoring=True))
    root = tmp_path_factory.mktemp("bundles") / "mini"
    bundle = export_bundle(cascade, root, ExportOptions.of_manifest(shipped.manifest))
    write_plans(bundle, image_sizes=SIZES, buckets=(16,))
    return bundle


@pytest.fixture(scope="module")
def full_size(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """SharpMask and MultiPathNet as published, with few channels, for small images."""
    names = ("sharpmask-resnet50", "multipathnet-vgg16")
    info = CascadeInfo(
        proposals=names[0],
        proposals_sizes=NARROW[names[0]],
        classifier=names[1],
        classifier_sizes=NARROW[names[1]],
        class_names=("disc", "noise"),
    )
    proposals = narrow(SharpMask, names[0])
    classifier = narrow(MultiPathNet, names[1], classes=2)
    cascade = Cascade(info=info, proposals=proposals, classifier=classifier)
    folder = tmp_path_factory.mktemp("bundles")
    exported = export_bundle(cascade, folder / "exported")
    manifest = replace(
        exported.manifest,
        pyramid=PyramidSpec(scales=(0.5, 1.0), max_side=96),
        select=SelectSpec(top_k=8, window_nms_iou=0.8),
        features=FeaturesSpec(short_side=64, long_side=96),
    )
    bundle = write_bundle(folder / "small", manifest, stage_files(exported))
    write_plans(bundle, image_sizes=((96, 64),))
    return bundle


def check(
    bundle: Bundle, device: str, image: UInt8Array, options: PipelineOptions, seed: int = 0
) -> tuple[Detections, Proposals]:
    """Compare the results for an image, first by plain launches and then by a graph."""
    with opened(bundle, CpuDevice(), None, options) as cpu:
        want, wanted = cpu(image), cpu.propose(image)
    with executing(device, seed) as (gpu, simulation):
        with opened(bundle, gpu, simulation, options) as pipeline:
            for _ in range(2):
                assert_same_detections(pipeline(image), want)
            assert_same_proposals(pipeline.propose(image), wanted)
        assert simulation.conflicts == []
        assert set(simulation.live_bytes.values()) <= {0}
    gc.collect()  # cycles keep the sessions of the simulated TensorRT, of several 100 MB
    return want, wanted


def test_detections_and_proposals_are_those_of_the_cpu(mini: Bundle) -> None:
    detections, proposals = check(mini, "cuda", noise_with_disc(128, 96), OPTIONS)
    assert len(detections) > 1
    assert len(proposals) == 16


@pytest.mark.slow
def test_detections_and_proposals_of_one_run_are_those_of_the_cpu(mini: Bundle) -> None:
    image = noise_with_disc(128, 96)
    with opened(mini, CpuDevice(), None, OPTIONS) as cpu:
        want, wanted = cpu(image), cpu.propose(image)
    with executing("cuda") as (gpu, simulation):
        with opened(mini, gpu, simulation, OPTIONS) as pipeline:
            for _ in range(2):  # by plain launches, and by a graph
                found = pipeline.find(image)
                assert_same_detections(found.detections, want)
                assert_same_proposals(found.proposals, wanted)
        assert simulation.conflicts == []


@pytest.mark.slow
def test_some_of_the_levels(mini: Bundle) -> None:
    options = replace(OPTIONS, scales=(0.5, 1.0, 2.0))
    _, proposals = check(mini, "cuda", noise_with_disc(128, 96), options)
    assert len(proposals) > 1


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(), SIZES[:1]])
def test_a_preset_runs_on_the_plans_of_its_bundle(
    mini: Bundle, tmp_path: Path, sizes: tuple[tuple[int, int], ...]
) -> None:
    """In an image of this size, the classifier reads another level with the preset."""
    fast = replace(Bundle.open("mini").manifest.presets["fast"], top_k=16)
    manifest = replace(mini.manifest, presets={"fast": fast})
    bundle = write_bundle(tmp_path / "preset", manifest, stage_files(mini))
    write_plans(bundle, image_sizes=sizes, buckets=(16,) if sizes else ())
    options = PipelineOptions(preset="fast", score_threshold=0.02)
    levels = [
        Sizes.of(96, 128, one).features
        for one in (options.applied_to(manifest), PipelineOptions(top_k=16).applied_to(manifest))
    ]
    assert levels[0] != levels[1]
    _, proposals = check(bundle, "cuda", noise_with_disc(128, 96), options)
    assert len(proposals) > 1


@pytest.mark.slow
@pytest.mark.parametrize("device", GPUS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_mini_of_every_size_in_every_order(
    mini: Bundle, device: str, size: tuple[int, int], seed: int
) -> None:
    check(mini, device, noise_with_disc(*size), OPTIONS, seed)


@pytest.mark.slow
@pytest.mark.parametrize("device", GPUS)
def test_networks_as_published_with_few_channels(full_size: Bundle, device: str) -> None:
    options = PipelineOptions(score_threshold=0.0)
    detections, _ = check(full_size, device, noise_with_disc(96, 64), options)
    assert len(detections) > 1


@pytest.mark.slow
@pytest.mark.parametrize("wanted", [0, 1, 20])
def test_nothing_one_and_many_are_found(mini: Bundle, wanted: int) -> None:
    image = noise_with_disc(128, 96)
    threshold = {0: 1.0, 1: 0.2, 20: 0.0}[wanted]
    options = replace(OPTIONS, score_threshold=threshold, max_detections=wanted or None)
    detections, _ = check(mini, "cuda", image, options)
    assert len(detections) == wanted
