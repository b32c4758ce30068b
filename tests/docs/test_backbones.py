# SPDX-License-Identifier: Apache-2.0
"""The page on backbones works as described, on six drawings."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.docs.blocks import read_blocks, run_document
from tests.samples.drawings import write_cvat
from tests.samples.paths import ROOT
from tests.samples.timm_models import import_timm

from foveate.bundle import Bundle

import_timm()

PAGE = ROOT / "docs" / "how-to" / "backbones.md"

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_the_page_names_every_command_of_the_way() -> None:
    blocks = [block for block in read_blocks(PAGE) if block.mark == "slow"]
    commands = [command.split()[1] for block in blocks for command, _ in block.commands]
    assert commands == ["train", "train", "export", "verify"]


@pytest.mark.slow
def test_the_page_leads_from_weights_of_timm_to_a_bundle_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(0)
    monkeypatch.chdir(tmp_path)
    write_cvat(Path("my-images"), range(6))
    printed = run_document(PAGE, slow=True)
    assert "agrees with PyTorch" in printed[1]
    assert "Unexpected keys" not in caplog.text
    manifest = Bundle.open(Path("my-bundle")).manifest
    assert [one.name for one in manifest.source.networks] == [
        "sharpmask-timm:mobilenetv3_small_050"
    ]
    record = manifest.provenance["training"]["trunks"]["proposals"]
    assert record["weights"] == "weights.safetensors"
    assert printed[2].endswith(" masks\n")
