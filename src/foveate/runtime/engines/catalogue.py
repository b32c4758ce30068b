# SPDX-License-Identifier: Apache-2.0
"""The compiled plans of a bundle: which of them run on this machine, and which one fits a shape."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING

from foveate.bundle.engine_metadata import EngineMetadata, read_metadata
from foveate.errors import BackendError, FoveateError
from foveate.kernels.plugins.build import source_digest
from foveate.kernels.plugins.library import check_library, library_path
from foveate.runtime.engines.engine import NoPlanError
from foveate.system.private_files import check_private

if TYPE_CHECKING:
    from collections.abc import Container
    from pathlib import Path

    from foveate.bundle import Bundle
    from foveate.bundle.engine_key import Profile
    from foveate.system.tensorrt import Installed

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A compiled engine of a bundle: its file, and the metadata next to it."""

    path: Path
    metadata: EngineMetadata


@dataclass(frozen=True, kw_only=True)
class StagePlans:
    """The plans of one stage.

    Args:
        stage: Name of the stage.
        folder: Folder of the plans.
        command: Command that compiles the bundle for the same target.
        max_side: Longer side of the working image in the manifest, in pixels.
        plans: The plans that run on this machine.
        refusals: Why each of the others does not.
    """

    stage: str
    folder: Path
    command: str
    max_side: int
    plans: list[Plan] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    def find(self, shapes: Shapes, preferred: Container[Path] = ()) -> tuple[Plan, int]:
        """Return the narrowest plan that accepts these shapes of its inputs, and its profile.

        Args:
            shapes: Shape of each input.
            preferred: Files of plans that precede others as narrow, such as those in memory.

        Raises:
            NoPlanError: No plan accepts them; the text lists all plans, the nearest first, each
                with the reason.
        """
        found = [
            (plan, number, prod(one.size() for one in profile.values()))
            for plan in self.plans
            for number, profile in enumerate(plan.metadata.key.profiles)
            if all(profile[name].contains(shape) for name, shape in shapes.items())
        ]
        if not found:
            raise self.refuse(shapes)
        plan, number, _ = min(found, key=lambda one: (one[2], one[0].path not in preferred))
        return plan, number

    def rows_for(self, name: str, rows: int) -> int:
        """Return the smallest number of rows of an input, at least ``rows``, that a plan takes.

        It is ``rows`` itself if no plan takes as many.
        """
        ranges = [profile[name] for plan in self.plans for profile in plan.metadata.key.profiles]
        taken = [max(rows, one.minimum[0]) for one in ranges if rows <= one.maximum[0]]
        return min(taken, default=rows)

    def refuse(self, shapes: Shapes | None = None) -> NoPlanError:
        """Return the error for shapes that no plan accepts; without shapes, for any."""
        reasons, needed = list(self.refusals), "runs on this machine"
        if shapes is not None:
            near = sorted(_nearest(plan.metadata, shapes) for plan in self.plans)
            reasons = [text for _, text in near] + reasons
            sides = (f"{name} {'x'.join(map(str, shape))}" for name, shape in shapes.items())
            needed = f"takes {', '.join(sides)}"
        error = NoPlanError(
            f"no compiled plan of the stage {self.stage!r} {needed} "
            f"({'; '.join(reasons) or 'there is none'})",
            file=self.folder,
            remedy=f"run: {self.command}",
        )
        error.max_side = self.max_side
        return error


def find_plans(bundle: Bundle, installed: Installed, architecture: str) -> dict[str, StagePlans]:
    """Return the plans of each stage, with the reasons why others do not run on this machine.

    Args:
        bundle: Bundle with the plans.
        installed: Library that is to run them.
        architecture: Compute capability of the GPU, such as ``"sm_89"``.

    Raises:
        NoPlanError: A stage has no plan that runs on this machine.
    """
    target = installed.target.name
    folder = bundle.root / "engines" / target
    command = f"foveate compile {shlex.quote(str(bundle.root))} --target {target}"
    stages = {
        stage: StagePlans(
            stage=stage, folder=folder, command=command, max_side=bundle.manifest.pyramid.max_side
        )
        for stage in bundle.manifest.networks
    }
    sources = source_digest()
    for path in sorted(folder.glob("*.plan")):
        try:
            check_private(path)  # a plan is code that runs in this process
            metadata = read_metadata(path)
        except (FoveateError, OSError) as error:
            # Its stage is in the file that cannot be read, so that all stages list it.
            for one in stages.values():
                one.refusals.append(f"{path.stem}: {_reason(error)}")
            continue
        if metadata.key.stage not in stages:
            continue
        try:
            _check(bundle, metadata, installed, architecture, sources)
        except FoveateError as error:
            stages[metadata.key.stage].refusals.append(_reason(error))
        else:
            stages[metadata.key.stage].plans.append(Plan(path=path, metadata=metadata))
    for one in stages.values():
        if not one.plans:
            raise one.refuse()
    return stages


def _check(
    bundle: Bundle, record: EngineMetadata, installed: Installed, architecture: str, sources: str
) -> None:
    """Check that an engine belongs to the bundle, and that this machine can run it."""
    key, manifest = record.key, bundle.manifest
    record.check_environment(tensorrt=installed.version, cuda=installed.cuda, arch=architecture)
    onnx = manifest.files[manifest.stages[key.stage].file].sha256
    record.check_sources(onnx=onnx, plugins=None if key.plugins is None else sources)
    record.check_dispatch()
    if key.options.get("strip_weights"):
        raise BackendError(f"the engine {record.name!r} has no weights (--strip-weights)")
    if installed.target.module.endswith("lean") and not key.options.get("version_compatible"):
        raise BackendError(
            f"the engine {record.name!r} is not version-compatible, which lean TensorRT requires"
        )
    names = frozenset(one.name for one in manifest.stages[key.stage].inputs)
    if {frozenset(profile) for profile in key.profiles} != {names}:
        raise BackendError(f"the engine {record.name!r} has other inputs than its stage")
    if key.plugins is not None:
        check_library(library_path(key.plugins, architecture), key.plugins)


def _reason(error: FoveateError | OSError) -> str:
    """Return the text of an error without the command that compiles all engines again."""
    if not isinstance(error, FoveateError):
        return str(error)
    compiles = (error.remedy or "").startswith("run: foveate compile")
    return error.what if compiles else str(error)


def _nearest(record: EngineMetadata, shapes: Shapes) -> tuple[float, str]:
    """Return the distance of shapes from the nearest profile, and what that accepts instead."""

    def distance(profile: Profile) -> float:
        return sum(profile[name].distance(shape) for name, shape in shapes.items())

    nearest = min(record.key.profiles, key=distance)
    accepted = [f"{name} {one}" for name, one in nearest.items() if one.distance(shapes[name])]
    return distance(nearest), f"the engine {record.name!r} takes {', '.join(accepted)}"
