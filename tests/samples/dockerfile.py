# SPDX-License-Identifier: Apache-2.0
"""What a Dockerfile says."""

from __future__ import annotations

import json
from pathlib import Path


class Dockerfile:
    """The instructions of a Dockerfile, in order.

    Args:
        file: Its path.
    """

    def __init__(self, file: Path) -> None:
        lines = file.read_text(encoding="utf-8").splitlines()
        text = "\n".join(line for line in lines if not line.startswith("#"))
        joined = text.replace("\\\n", " ").splitlines()
        self.instructions = [line.split(maxsplit=1) for line in joined if line.strip()]

    def all(self, name: str) -> list[str]:
        """Return the arguments of all instructions of a name."""
        return [rest for found, rest in self.instructions if found == name]

    def last(self, name: str) -> str:
        """Return the arguments of the last instruction of a name."""
        return self.all(name)[-1]

    def words(self, name: str) -> list[str]:
        """Return the command of the last instruction of a name, which is in the form of JSON."""
        rest = self.last(name)
        found: list[str] = json.loads(rest[rest.index("[") :])
        return found

    def sources(self) -> list[str]:
        """Return the files and directories that it copies from the context of the build."""
        copies = [rest.split() for rest in self.all("COPY") if not rest.startswith("--from")]
        return [source for words in copies for source in words[:-1]]
