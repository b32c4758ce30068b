# SPDX-License-Identifier: Apache-2.0
"""The context that libraries on the runtime API of CUDA use, such as ONNX Runtime and PyTorch."""

from __future__ import annotations

from typing import Any

from foveate.errors import BackendError


def check_primary_context(device: Any, library: str) -> int:
    """Return the index of a GPU, after a check that it is used through its primary context.

    Streams and memory of another context, as ``pycuda.autoinit`` creates one, are unknown to the
    library, and it would make the primary context current in place of that one.

    Args:
        device: The GPU.
        library: Name of the library.

    Raises:
        BackendError: Another context is used.
    """
    context = device.context
    context.use()
    current = int(context.call("cuCtxGetCurrent"))
    primary = int(context.call("cuDevicePrimaryCtxRetain", context.number))
    context.call("cuDevicePrimaryCtxRelease", context.number)
    if current != primary:
        raise BackendError(
            f"{library} uses the primary context of a GPU, and another one is current",
            remedy="import pycuda.autoprimaryctx in place of pycuda.autoinit, or use compiled "
            "engines: --backend tensorrt",
        )
    return int(context.number)
