# SPDX-License-Identifier: Apache-2.0
"""Sessions of ONNX Runtime and the texts of its errors, without the messages that it prints."""

import re
from pathlib import Path
from typing import Any

import onnxruntime

_LONGEST = 240
# An error code, the file (our errors name it themselves), and a place in ONNX Runtime's sources.
_NOISE = (
    r"^\[ONNXRuntimeError\] : \d+ : \w+ : ",
    r"^Load model from .*? failed: ?",
    r"^/onnxruntime_src/.*\) ",
)


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
        except UnicodeEncodeError:  # ONNX Runtime accepts file names in UTF-8 only
            source = source.read_bytes()
    # With the fallback enabled, ONNX Runtime prints to standard output when it changes the provider.
    return onnxruntime.InferenceSession(source, options, providers=[provider], enable_fallback=0)


def first_line(error: Exception) -> str:
    """Return the first line of an error without internals of ONNX Runtime, truncated if long."""
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    for noise in _NOISE:
        text = re.sub(noise, "", text)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
