# SPDX-License-Identifier: Apache-2.0
"""The plugin library: is it the one of these sources, and who computes each of our operators?

The builder of the library writes a stamp beside it, ``<library>.json`` with ``{"sources": SHA-256}``
of the sources as `foveate.kernels.plugins.build.source_digest` computes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from foveate.errors import BackendError, BundleError
from foveate.export.engines.stage_model import CustomOp
from foveate.export.engines.targets import Target
from foveate.system.private_files import check_private

BUILD = "foveate kernels build"


def check_library(library: Path, sources: str) -> None:
    """Refuse a library that is missing or was built from other sources.

    Raises:
        BackendError: There is no library, no stamp beside it, the stamp differs, or other users could
            change the library: it runs in this process, wherever it is.
    """
    remedy = f"run: {BUILD}"
    if not library.is_file():
        raise BackendError("there is no plugin library", file=library, remedy=remedy)
    check_private(library)
    stamp = library.with_suffix(".json")
    try:
        found = str(json.loads(stamp.read_text(encoding="utf-8"))["sources"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = "the plugin library has no stamp of its sources"
        raise BackendError(what, file=stamp, remedy=remedy) from error
    if found != sources:
        raise BackendError(
            f"the plugin library is stale: expected sources {sources[:12]}..., found {found[:12]}...",
            file=library,
            remedy=remedy,
        )


def choose(
    ops: Iterable[CustomOp],
    creators: Sequence[tuple[str, str, str]],
    target: Target,
    *,
    library: bool,
) -> dict[str, str]:
    """Say for each operator whether a plugin or its function body computes it.

    Args:
        ops: that a stage uses.
        creators: (name, version, namespace) of the registered plugins.
        target: what compiles.
        library: whether a plugin library was loaded, which then has to serve all of them.

    Raises:
        BackendError: The library lacks an operator or has another version of it.
        BundleError: There is neither a plugin nor a body, and this target takes no plugins.
    """
    chosen = {}
    for op in ops:
        if (op.name, op.version, op.namespace) in creators:
            chosen[op.name] = "plugin"
        elif library or not op.body:
            raise _missing(op, creators, target)
        else:
            chosen[op.name] = "body"
    return chosen


def _missing(
    op: CustomOp, creators: Sequence[tuple[str, str, str]], target: Target
) -> BackendError | BundleError:
    wanted = f"{op.name}, version {op.version}, namespace {op.namespace!r}"
    if not target.plugins:
        return BundleError(
            f"the operator {wanted} has no function body, and {target.name} takes no plugins",
            remedy="export the bundle again: foveate export CHECKPOINT --output BUNDLE",
        )
    others = [
        version for name, version, space in creators if (name, space) == (op.name, op.namespace)
    ]
    found = f"version {', '.join(others)}" if others else "none"
    body = "" if op.body else ", nor has it a function body"
    return BackendError(
        f"no plugin is registered for {wanted} (found: {found}){body}",
        remedy=f"run: {BUILD}, and give the library: --plugins libfoveate_plugins.so",
    )
