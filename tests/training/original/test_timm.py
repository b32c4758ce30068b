# SPDX-License-Identifier: Apache-2.0
"""Training on trunks of timm: from a data set to a bundle that runs, with recorded weights."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from tests.samples.paths import CAT
from tests.samples.timm_models import import_timm
from tests.samples.training import narrow_run, silent, write_dataset, write_proposals

import foveate
from foveate.cli import invoke
from foveate.errors import ModelError, OptionError
from foveate.export.bundle_export import ExportOptions, export_bundle
from foveate.models.checkpoint import Cascade, load_checkpoint
from foveate.models.sharpmask import deepmask_of
from foveate.models.timm_trunk import TimmTrunk
from foveate.system.regular_files import file_digest
from foveate.training.original.run import OriginalOptions, run

timm = import_timm()

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

MODEL = "test_convnext"
NARROW = {"neck": 8, "vector": 16, "score_hidden": 16}
options = partial(narrow_run, network=f"deepmask-timm:{MODEL}", sizes=NARROW, steps=2)


class StoppedError(Exception):
    pass


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    file = tmp_path_factory.mktemp("weights") / "convnext.safetensors"
    safetensors.torch.save_file(timm.create_model(MODEL).state_dict(), file)
    return file


@pytest.fixture(scope="module")
def cascade(dataset: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Cascade:
    """A SharpMask on a DeepMask that starts from a file, and a detector with random weights."""
    folder = tmp_path_factory.mktemp("trained")
    start = partial(options, dataset, folder / "run", steps=1)
    deepmask = run(start(trunk_weights=str(weights)), silent)
    refine = {"network": f"sharpmask-timm:{MODEL}", "sizes": {"km": 16, "ks": 16}}
    sharpmask = run(start(deepmask=deepmask, **refine), silent)
    detector = run(
        start(
            network=f"multipathnet-timm:{MODEL}",
            sizes={"mixed": 4, "hidden": 8},
            proposals=write_proposals(dataset, folder / "proposals.json"),
            trunk_weights="random",
            batch=1,
        ),
        silent,
    )
    assert [deepmask.name, detector.name] == ["deepmask.safetensors", "multipathnet.safetensors"]
    return load_checkpoint(sharpmask, detector)


def test_the_trunks_of_a_cascade_are_recorded(cascade: Cascade, weights: Path) -> None:
    assert cascade.info.proposals == f"sharpmask-timm:{MODEL}"
    common = {"name": f"timm:{MODEL}", "timm": timm.__version__}
    assert cascade.info.training["trunks"] == {
        "proposals": {**common, "weights": weights.name, "sha256": file_digest(weights)},
        "classifier": {**common, "weights": "random"},
    }


@pytest.mark.slow
def test_a_trained_cascade_becomes_a_bundle_that_runs(cascade: Cascade, tmp_path: Path) -> None:
    small = ExportOptions(scales=(0.5, 1.0), max_side=192, top_k=8, short_side=96, long_side=128)
    bundle = export_bundle(cascade, tmp_path / "bundle", small)
    assert bundle.manifest.provenance["training"] == cascade.info.training
    assert f"name timm:{MODEL}, timm {timm.__version__}, weights random" in bundle.path(
        "README.md"
    ).read_text(encoding="utf-8")
    assert len(foveate.load(bundle.root).propose(CAT)) == 8


def test_training_begins_with_the_weights_of_the_file(
    dataset: Path, weights: Path, tmp_path: Path
) -> None:
    trained = run(options(dataset, tmp_path, trunk_weights=str(weights), steps=1), silent)
    trunk = deepmask_of(load_checkpoint(trained).proposals).trunk
    state = safetensors.torch.load_file(weights)
    start = TimmTrunk(MODEL, last_stride=16, state=state)
    for name, tensor in start.state_dict().items():
        assert torch.allclose(trunk.state_dict()[name], tensor, atol=2e-3), name


def test_an_interrupted_run_is_resumed_with_the_same_trunk_only(
    dataset: Path, weights: Path, tmp_path: Path
) -> None:
    def stop(_task: str, done: int, _total: int, _losses: object = None, /) -> None:
        if done == 2:
            raise StoppedError

    random = {"trunk_weights": "random", "steps": 3, "checkpoint_every": 1}
    whole = run(options(dataset, tmp_path / "whole", **random), silent)
    with pytest.raises(StoppedError):
        run(options(dataset, tmp_path / "broken", **random), stop)
    other = options(dataset, tmp_path / "broken", **{**random, "trunk_weights": str(weights)})
    with pytest.raises(ModelError, match="it was made with trunk '.*', not '.*'"):
        run(other, silent)
    resumed = run(options(dataset, tmp_path / "broken", **random), silent)
    first, second = (safetensors.torch.load_file(file) for file in (whole, resumed))
    assert all(torch.equal(second[name], tensor) for name, tensor in first.items())


def test_a_file_of_another_model_is_named(dataset: Path, weights: Path, tmp_path: Path) -> None:
    other = {"network": "deepmask-timm:test_resnet", "trunk_weights": str(weights)}
    with pytest.raises(ModelError, match=r"expected shape .* for .*: .*convnext.safetensors: pass"):
        run(options(dataset, tmp_path, **other), silent)


@pytest.mark.parametrize(
    "changes",
    [
        {"network": "deepmask-resnet50"},
        {"init_from": Path("start.safetensors")},
        {"network": f"sharpmask-timm:{MODEL}", "deepmask": Path("deepmask.safetensors")},
    ],
)
def test_weights_of_a_trunk_that_a_checkpoint_has_are_refused(changes: dict[str, Any]) -> None:
    given = {"network": f"deepmask-timm:{MODEL}", "trunk_weights": "random", **changes}
    with pytest.raises(OptionError, match="takes no --trunk-weights: they are for a trunk of timm"):
        OriginalOptions(dataset=Path(), output=Path(), **given)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("deepmask", "deepmask needs a trunk: --trunk, such as timm:resnet18, is for deepmask, "),
        ("deepmask-resnet50 --trunk timm:resnet18", "deepmask-resnet50 takes no other trunk"),
        ("mini --trunk timm:resnet18", "mini takes no --trunk: name a full-size --network"),
        ("deepmask --trunk timm:", "expected --trunk timm:NAME, got 'timm:'"),
        ("deepmask --trunk resnet18", "expected --trunk timm:NAME, got 'resnet18'"),
        ("deepmask --trunk timm:resnet81", "has no model 'resnet81': use resnet"),
    ],
)
def test_the_command_refuses_a_wrong_trunk(
    words: str, message: str, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--dataset", str(dataset), "--output", str(tmp_path)]
    assert invoke(["train", *common, "--network", *words.split()]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
