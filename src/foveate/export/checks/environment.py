# SPDX-License-Identifier: Apache-2.0
"""Why a compiled engine is not run on this machine."""

from __future__ import annotations

from foveate.bundle.engine_metadata import EngineMetadata
from foveate.errors import FoveateError
from foveate.export.engines.gpu import current_gpu
from foveate.export.engines.targets import find_installed


def obstacle(record: EngineMetadata) -> str:
    """Say why an engine is not run here, the nearest reason first.

    An engine for another GPU or library is not at fault: it may be meant for another machine.
    """
    key, gpu = record.key, current_gpu()
    archs = " or ".join(key.archs)
    try:
        installed = find_installed(key.target)
        # Without a GPU the versions still tell.
        arch = key.archs[0] if gpu is None else gpu.arch
        record.check_environment(tensorrt=installed.version, cuda=installed.cuda, arch=arch)
    except FoveateError as error:  # not installed, another version, or a target that is none
        why = str(error)
        return why if gpu is not None else f"{_no_gpu(archs)}; and {why}"
    if gpu is None:
        return _no_gpu(archs)
    return f"Foveate runs no engines yet: load it in {key.target} on this {gpu.name}"


def _no_gpu(archs: str) -> str:
    return f"no NVIDIA driver answers here, and it needs a GPU of {archs}"
