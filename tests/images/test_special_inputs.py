# SPDX-License-Identifier: Apache-2.0
"""A FIFO or device in place of a file that is read is an error at once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.samples.compiling import write_engine

from foveate.bundle.engine_metadata import read_metadata
from foveate.errors import BundleError, FoveateError
from foveate.importing.pytorch import read_state
from foveate.importing.torch7.reader import read_torch7
from foveate.models.checkpoint import load_checkpoint


@pytest.mark.parametrize("read", [load_checkpoint, read_state, read_torch7])
def test_no_command_waits_for_a_fifo_in_place_of_weights(
    tmp_path: Path, read: Callable[[Path], object]
) -> None:
    os.mkfifo(tmp_path / "weights.pth")
    for path in (tmp_path / "weights.pth", Path("/dev/zero")):
        with pytest.raises(FoveateError, match="not a regular file"):
            read(path)


@pytest.mark.parametrize("suffix", [".plan", ".json"])
def test_no_command_waits_for_a_fifo_in_place_of_an_engine(tmp_path: Path, suffix: str) -> None:
    file = write_engine(tmp_path).with_suffix(suffix)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(BundleError, match="not a regular file"):
        read_metadata(file.with_suffix(".plan"))


def test_a_record_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    plan = write_engine(tmp_path)
    plan.with_suffix(".json").write_bytes(b'{"name": "\xff"}')
    with pytest.raises(BundleError, match="metadata of an engine are invalid"):
        read_metadata(plan)
