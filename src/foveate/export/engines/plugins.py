# SPDX-License-Identifier: Apache-2.0
"""Checks of the plugin library, and the choice between a plugin and a function body.

The library has a stamp next to it, ``<library>.json``, which contains as ``sources`` the digest that
:func:`foveate.kernels.plugins.build.source_digest` returned when the library was built.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from foveate.errors import BackendError, BundleError
from foveate.export.execution.stage_model import EXPORT_AGAIN, CustomOp
from foveate.system.private_files import check_private
from foveate.system.tensorrt import Target

BUILD = "foveate kernels build"


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
    stamp = library.with_suffix(".json")
    try:
        found = str(json.loads(stamp.read_text(encoding="utf-8"))["sources"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = "the plugin library has no stamp of its sources"
        raise BackendError(what, file=stamp, remedy=remedy) from error
    if found != sources:
        what = f"expected sources {sources[:12]}..., found {found[:12]}..."
        raise BackendError(f"the plugin library is stale: {what}", file=library, remedy=remedy)


def choose(
    ops: Iterable[CustomOp],
    creators: Sequence[tuple[str, str, str]],
    target: Target,
    *,
    library: bool,
) -> dict[str, str]:
    """Choose for each operator whether a plugin or its function body computes it.

    Args:
        ops: Custom operators of a stage.
        creators: Names, versions and namespaces of the registered plugins.
        target: Compiler of the engine.
        library: Whether a plugin library was loaded, which then must have all the operators.

    Returns:
        ``"plugin"`` or ``"body"`` by operator name.

    Raises:
        BackendError: The library lacks an operator or has another version of it.
        BundleError: An operator has no function body, and the target does not support plugins.
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
    expected = f"{op.name}, version {op.version}, namespace {op.namespace!r}"
    if not target.plugins:
        return BundleError(
            f"the operator {expected} has no function body, and {target.name} does not support plugins",
            remedy=EXPORT_AGAIN,
        )
    others = [
        version for name, version, space in creators if (name, space) == (op.name, op.namespace)
    ]
    found = f"version {', '.join(others)}" if others else "none"
    body = "" if op.body else ", and it has no function body"
    return BackendError(
        f"no plugin is registered for {expected} (found: {found}){body}",
        remedy=f"run: {BUILD}, and pass the library: --plugins libfoveate_plugins.so",
    )
