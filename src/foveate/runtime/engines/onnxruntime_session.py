# SPDX-License-Identifier: Apache-2.0
"""Sessions of ONNX Runtime, whose wheel prints nothing on its own and takes every file name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime


def open_session(
    source: Path | bytes, options: Any, provider: str = "CPUExecutionProvider"
) -> onnxruntime.InferenceSession:
    """Open a session on a file, or on the content of one.

    Raises:
        Exception: ONNX Runtime cannot load it; its errors have no other common class.
    """
    if isinstance(source, Path):
        try:
            str(source).encode()
        except UnicodeEncodeError:  # ONNX Runtime takes names in UTF-8 only
            source = source.read_bytes()
    # The fallback to another provider announces itself on standard output.
    return onnxruntime.InferenceSession(source, options, providers=[provider], enable_fallback=0)
