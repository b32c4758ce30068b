# SPDX-License-Identifier: Apache-2.0
"""What a word means that may be a file, a folder or a shipped bundle."""

from __future__ import annotations

from pathlib import Path

import pytest

from foveate.bundle import Bundle
from foveate.cli._given import is_checkpoint, path_or_name
from foveate.errors import BundleError


def test_a_plain_word_is_the_shipped_bundle_whatever_lies_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mini").write_bytes(b"a checkpoint")
    assert not is_checkpoint("mini")
    assert not is_checkpoint(path_or_name("mini"))
    assert Bundle.open(path_or_name("mini")).root.parent.name == "bundles"


def test_a_path_with_a_slash_is_what_lies_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mini").write_bytes(b"a checkpoint")
    assert is_checkpoint("./mini")
    assert is_checkpoint(path_or_name("./mini"))
    with pytest.raises(BundleError, match=f"this is a file: {tmp_path / 'mini'}"):
        Bundle.open(path_or_name("./mini"))


def test_a_checkpoint_that_is_missing_is_known_by_its_name() -> None:
    assert is_checkpoint("missing.safetensors")
    assert not is_checkpoint("missing")
