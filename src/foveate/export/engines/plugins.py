# SPDX-License-Identifier: Apache-2.0
"""The choice between a plugin and the function body of an operator."""

from collections.abc import Iterable, Sequence

from foveate.errors import BackendError, BundleError
from foveate.export.execution.stage_model import EXPORT_AGAIN, CustomOp
from foveate.kernels.plugins.library import BUILD
from foveate.system.tensorrt import Target


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
        f"no plugin is registered for {expected} (found: {found}){body}", remedy=f"run: {BUILD}"
    )
