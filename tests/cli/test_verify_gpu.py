# SPDX-License-Identifier: Apache-2.0
"""``foveate verify --device`` on a machine without a GPU."""

from __future__ import annotations

import pytest

from foveate.cli import invoke
from foveate.system.gpu import current_gpu


def refusal(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert invoke(["verify", "mini", *options]) != 0
    found = capsys.readouterr()
    assert found.out == ""
    return found.err


@pytest.mark.skipif(current_gpu() is not None, reason="needs a machine without a GPU")
def test_a_machine_without_a_gpu_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    text = refusal(capsys, "--device", "cuda")
    assert len(text.splitlines()) == 1
    assert "the GPU 0 cannot be used" in text
    assert "`foveate doctor` shows what works here" in text


def test_an_unknown_device_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no device 'gpu': use cpu, cuda" in refusal(capsys, "--device", "gpu")


@pytest.mark.parametrize("option", ["--emulate-fp16", "--bisect", "--from-report"])
def test_options_for_the_cpu_are_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = refusal(capsys, "--device", "cuda", option)
    assert f"{option} runs on the CPU only: omit it, or omit --device" in text
