# SPDX-License-Identifier: Apache-2.0
"""`foveate doctor`: what works here, by trying it, and how to get the rest."""

from __future__ import annotations

import platform

import typer


def command() -> None:
    """Say what works here, by trying it, and how to get the rest."""
    from foveate import __version__
    from foveate.bundle import shipped_bundles
    from foveate.cli._console import say
    from foveate.cli._probes import PROBES

    say(f"foveate {__version__}, Python {platform.python_version()} on {platform.platform()}")
    say(f"shipped bundles: {', '.join(shipped_bundles()) or 'none'}")
    findings = {}
    for key, probe in PROBES.items():
        found = findings[key] = probe()
        word = "works  " if found.works else "missing"
        say(f"{word}  {found.name}: {found.detail}")
        if found.remedy and not found.works:
            say(f"         {found.remedy}")
    if not findings["onnxruntime"].works:
        raise typer.Exit(1)
