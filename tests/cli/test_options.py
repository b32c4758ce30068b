# SPDX-License-Identifier: Apache-2.0
"""Options that several commands share, and arguments that may be a file, directory or bundle."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from tests.samples.paths import CAT

import foveate
from foveate.bundle import Bundle
from foveate.cli import invoke
from foveate.cli._options import DEFAULT_SCORE_THRESHOLD, is_checkpoint, path_or_name
from foveate.errors import BundleError, OptionError
from foveate.runtime import PipelineOptions


def test_a_plain_word_is_the_shipped_bundle_even_if_a_file_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mini").write_bytes(b"a checkpoint")
    assert not is_checkpoint("mini")
    assert not is_checkpoint(path_or_name("mini"))
    assert Bundle.open(path_or_name("mini")).root.parent.name == "bundles"


def test_a_path_with_a_slash_is_the_file_at_that_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mini").write_bytes(b"a checkpoint")
    assert is_checkpoint("./mini")
    assert is_checkpoint(path_or_name("./mini"))
    with pytest.raises(BundleError, match=f"found a file: {tmp_path / 'mini'}"):
        Bundle.open(path_or_name("./mini"))


def test_a_missing_checkpoint_is_recognized_by_its_suffix() -> None:
    assert is_checkpoint("missing.safetensors")
    assert not is_checkpoint("missing")


def test_the_commands_have_the_default_threshold_of_the_pipeline() -> None:
    assert PipelineOptions().score_threshold == DEFAULT_SCORE_THRESHOLD


@pytest.mark.parametrize(("words", "expected"), [(["--debug"], True), ([], False)])
def test_debug_reaches_the_pipeline(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str], expected: bool
) -> None:
    seen = []

    def load(*_: Any, options: foveate.PipelineOptions, **__: Any) -> Any:
        seen.append(options.debug)
        raise OptionError("enough")

    monkeypatch.setattr("foveate.runtime.load", load)
    arguments = ["run", str(CAT), "--output", str(tmp_path), *words]
    with pytest.raises(OptionError) if expected else nullcontext():
        invoke(arguments)
    assert seen == [expected]
