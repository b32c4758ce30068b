# SPDX-License-Identifier: Apache-2.0
"""What ``foveate bench`` measures: a bundle in this process, or a server."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TypeAlias

import typer
from typer.core import TyperOption

from foveate.bench.advice import Command
from foveate.bench.server_session import ServerTarget
from foveate.bench.session import Target
from foveate.bundle import Bundle
from foveate.cli._options import given_names, pin_bundle
from foveate.errors import OptionError
from foveate.runtime.loading import BACKENDS

AnyTarget: TypeAlias = Target | ServerTarget

# Options of the requests to a server.
_OF_SERVER = ("model", "input_name", "timeout")
_OF_PIPELINE = ("device", "backend", "threads", "preset", "top_k", "scales", "max_side")
# Files that a repetition would replace.
_WRITTEN = ("json_file", "html_file", "trace")
# Options that need a pipeline in this process, whatever it is compared with.
_NOT_REMOTE = ("dataset", "limits", "nvtx")


def repeated_command(context: typer.Context) -> Command:
    """Return the command line of a measurement, without the files that it writes."""
    given, values = given_names(context), context.params
    options = {
        one.opts[0]: "" if one.is_flag else str(values[one.name])
        for one in context.command.params
        if isinstance(one, TyperOption) and one.name in given and one.name not in _WRITTEN
    }
    # With a URL, the first argument is an image.
    first = [values["bundle"]] if "bundle" in given or not values["url"] else []
    return Command(arguments=(*first, *(values["images"] or ())), options=options)


def choose_targets(
    given: Collection[str],
    pipeline: Target,
    server: ServerTarget,
    *,
    against: str | None,
    images: Sequence[str],
) -> tuple[list[AnyTarget], Sequence[str]]:
    """Return what is measured, with its rival as a second one if there is one, and the images.

    With ``--url``, the first argument is an image like the others. ``given`` has the names of the
    parameters that stand on the command line.

    Raises:
        OptionError: An option does not belong to what is measured.
    """
    remote = _is_url(against)
    if not server.url:
        _refuse(given, () if remote else _OF_SERVER, "a server", "add --url URL, or omit it")
        return [pipeline, *_rivals(pipeline, server, against)], images
    local = _OF_PIPELINE if against is None or remote else ()
    _refuse(given, (*local, *_NOT_REMOTE), "a pipeline in this process", "omit it, or --url")
    if "bundle" in given:
        images = [pipeline.bundle, *images]
        pipeline = replace(pipeline, bundle="mini")
    return [server, *_rivals(pipeline, server, against)], images


def rival_of(target: Target, against: str) -> Target:
    """Return the target of ``--against``: another backend, preset or bundle.

    The bundle itself is measured without a preset.
    """
    if against in (*BACKENDS, "torch"):
        return replace(target, backend=against)
    against = pin_bundle(against)
    presets = Bundle.open(target.bundle).manifest.presets
    if against in presets or against == target.bundle:
        preset = against if against in presets else None
        return replace(target, options=replace(target.options, preset=preset))
    return replace(target, bundle=against)


def _rivals(pipeline: Target, server: ServerTarget, against: str | None) -> list[AnyTarget]:
    if against is None:
        return []
    return [replace(server, url=against) if _is_url(against) else rival_of(pipeline, against)]


def _is_url(text: str | None) -> bool:
    return text is not None and text.startswith(("http://", "https://"))


def _refuse(given: Collection[str], names: Sequence[str], owner: str, remedy: str) -> None:
    for name in names:
        if name in given:
            option = f"--{name.removesuffix('_name').replace('_', '-')}"
            raise OptionError(f"{option} is an option of {owner}", remedy=remedy)
