# SPDX-License-Identifier: Apache-2.0
"""The plugin library in the user's cache, where the runtime finds the one of an engine.

Its folder is named by the digest of its sources and by the GPU. Next to it lies a stamp,
``<library>.json``, which contains as ``sources`` the digest that
:func:`foveate.kernels.plugins.build.source_digest` returned when the library was built.
"""

import json
from contextlib import suppress
from pathlib import Path

from foveate.errors import BackendError, InputError
from foveate.kernels.compilers import Nvcc
from foveate.kernels.plugins.build import (
    LIBRARY,
    build_library,
    find_headers,
    require_nvcc,
    source_digest,
)
from foveate.system.files import write_file
from foveate.system.gpu import driver_version
from foveate.system.private_files import cache_folder, check_private, make_private

BUILD = "foveate kernels build"


def library_path(sources: str, architecture: str) -> Path:
    """Return the place of a library in the user's cache, whether it exists or not.

    Args:
        sources: Digest of the sources.
        architecture: Compute capability of the GPU, such as ``"sm_89"``.
    """
    return cache_folder("plugins") / sources / architecture / LIBRARY


def obtain_library(architecture: str, headers: Path | None = None) -> Path:
    """Return the library of this package for a GPU, and build it if the cache has none.

    Args:
        architecture: Compute capability of the GPU, such as ``"sm_89"``.
        headers: Folder of TensorRT's headers, if :func:`find_headers` cannot find them by itself.

    Raises:
        BackendError: The compiler or the headers of TensorRT are missing, the compiler is of a later
            CUDA than the driver, or others could change the cache.
        InputError: The cache cannot be written.
    """
    sources = source_digest()
    library = library_path(sources, architecture)
    if not (library.is_file() and _stamp(library) == sources):
        headers, nvcc = find_headers(headers), require_nvcc()
        _check_driver(nvcc)
        _make_folder(library.parent)
        build_library(library, architectures=[architecture], headers=headers, nvcc=nvcc)
    check_library(library, sources)
    return library


def store_library(library: Path, architecture: str) -> None:
    """Copy a library that :func:`check_library` accepted to the place where the runtime finds it.

    Raises:
        InputError: The cache cannot be written.
    """
    place = library_path(source_digest(), architecture)
    if place.exists() and place.samefile(library):
        return
    _make_folder(place.parent)
    for source, target in ((library, place), (_stamp_of(library), _stamp_of(place))):
        write_file(target, source.read_bytes())


def check_library(library: Path, sources: str) -> None:
    """Check that a library exists and was built from sources of this digest.

    Raises:
        BackendError: There is no library or no stamp next to it, the stamp differs, or other users
            could change the library, whose code runs in this process.
    """
    remedy = f"run: {BUILD}"
    if not library.is_file():
        raise BackendError("there is no plugin library", file=library, remedy=remedy)
    check_private(library)  # before anything of it is read
    found = _stamp(library)
    if found is None:
        what = "the plugin library has no stamp of its sources"
        raise BackendError(what, file=_stamp_of(library), remedy=remedy)
    if found != sources:
        what = f"expected sources {sources[:12]}..., found {found[:12]}..."
        raise BackendError(f"the plugin library is stale: {what}", file=library, remedy=remedy)


def _check_driver(nvcc: Nvcc) -> None:
    """Check that the driver runs what a compiler links: the CUDA runtime of its own version."""
    driver = driver_version()
    if driver is not None and nvcc.cuda[0] > driver[0]:
        raise BackendError(
            f"the driver supports CUDA {driver[0]}.{driver[1]}, and nvcc would link the plugins with "
            f"the runtime of CUDA {nvcc.cuda[0]}.{nvcc.cuda[1]}",
            file=nvcc.program,
            remedy=f"set CUDA_HOME to a toolkit of CUDA {driver[0]}, update the driver, or compile "
            "with --no-plugins",
        )


def _stamp(library: Path) -> str | None:
    """Return the digest of the sources of a library, or None if it has no valid stamp."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads(_stamp_of(library).read_text(encoding="utf-8"))["sources"])
    return None


def _stamp_of(library: Path) -> Path:
    return library.with_suffix(".json")


def _make_folder(folder: Path) -> None:
    try:
        make_private(folder)
    except OSError as error:
        what = f"the cache of the plugin library cannot be written ({error.strerror})"
        raise InputError(what, file=folder, remedy="set FOVEATE_CACHE to another folder") from error
