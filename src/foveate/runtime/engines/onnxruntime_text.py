# SPDX-License-Identifier: Apache-2.0
"""What ONNX Runtime says when it fails, in the words that a reader needs."""

from __future__ import annotations

import re

_LONGEST = 240
# A code, the file, which we name ourselves, and the place in its own sources.
_NOISE = (
    r"^\[ONNXRuntimeError\] : \d+ : \w+ : ",
    r"^Load model from .*? failed: ?",
    r"^/onnxruntime_src/.*\) ",
)


def said(error: Exception) -> str:
    """Return the first line of an error without what only its authors read, cut off if long."""
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    for noise in _NOISE:
        text = re.sub(noise, "", text)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
