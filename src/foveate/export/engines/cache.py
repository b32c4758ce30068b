# SPDX-License-Identifier: Apache-2.0
"""The cache of engines, by the key of everything that determines an engine.

Each engine has a directory, named by the digest of its key, with the plan and its metadata, and a
lock file next to it. Only the owner of the lock may build, read or delete the engine, so two
processes that need the same one build it once. The least recently used engines are deleted when the cache exceeds its bound.
"""

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from foveate.bundle.engine_key import EngineKey
from foveate.bundle.engine_metadata import EngineMetadata, read_metadata
from foveate.errors import BundleError, InputError, OptionError
from foveate.system.files import new_folder, sweep_folder
from foveate.system.private_files import cache_folder, check_private, make_private
from foveate.system.resources import remedy_of

PLAN = "engine.plan"
_OURS = re.compile(r"([0-9a-f]{64})(\.lock)?")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An engine of the cache: digest of its key, metadata, size in bytes, and time of last use."""

    digest: str
    record: EngineMetadata
    size: int
    used: float  # in seconds since the epoch


class EngineCache:
    """A directory of engines that processes of one machine can share.

    Args:
        root: Directory of the cache, created on the first write.
        max_bytes: Largest size; the newest engine stays even if it is larger.
    """

    def __init__(self, root: Path | None = None, *, max_bytes: int = 10 << 30) -> None:
        if max_bytes < 0:
            raise OptionError(f"the bound of a cache must not be negative, found {max_bytes}")
        self.root = (root or cache_folder("engines")).absolute()
        self.max_bytes = max_bytes

    @contextlib.contextmanager
    def obtain(
        self,
        key: EngineKey,
        build: Callable[[Path], EngineMetadata],
        waiting: Callable[[], None] = lambda: None,
    ) -> Iterator[tuple[Path, EngineMetadata, str | None]]:
        """Yield an engine of this key, locked against deletion.

        Args:
            key: Key of the engine.
            build: Function that writes the plan to a path and returns its metadata.
            waiting: Function that is called before waiting for another process with this engine.

        Yields:
            The path of the plan, its metadata, and the reason why it had to be built, or None.

        Raises:
            InputError: The cache cannot be written.
            BackendError: Other users could write there, or could have changed the engine.
        """
        digest = key.digest()
        with _translate_errors(self.root):
            make_private(self.root)
        check_private(self.root)
        with self._locked(digest, waiting):
            found, why = self._look_up(digest, key)
            if found is None:
                found = self._add(digest, build)
            place = self.root / digest
            with _translate_errors(place):
                # The modification time of a directory is the time of its last use.
                os.utime(place)
            yield place / PLAN, found, why
        if why is not None:
            self.prune(keep=digest)

    def entries(self) -> list[Entry]:
        """Return the complete engines with readable metadata, the most recently used first."""
        folders = self.root.iterdir() if self.root.is_dir() else ()
        found = [entry for folder in folders if (entry := _read(folder)) is not None]
        return sorted(found, key=lambda entry: entry.used, reverse=True)

    def explain_miss(self, key: EngineKey) -> str | None:
        """Return how a key differs from that of the nearest engine; None if it is in the cache."""
        return self._nearest(key) if _read(self.root / key.digest()) is None else None

    def prune(self, max_bytes: int | None = None, *, keep: str | None = None) -> list[Entry]:
        """Delete the least recently used engines until the cache fits, and return them.

        Args:
            max_bytes: Bound in place of that of the cache.
            keep: Digest of an engine that stays. Engines that a process uses stay too.
        """
        bound = self.max_bytes if max_bytes is None else max_bytes
        self._sweep()
        entries = self.entries()
        total, deleted = sum(entry.size for entry in entries), []
        for entry in reversed(entries):
            if total <= bound:
                break
            if entry.digest != keep and self._delete(entry.digest):
                deleted.append(entry)
                total -= entry.size
        return deleted

    def _sweep(self) -> None:
        """Delete leftovers of killed processes, damaged engines, and locks without an engine."""
        sweep_folder(self.root)
        for left in list(self.root.iterdir()) if self.root.is_dir() else ():
            name = _OURS.fullmatch(left.name)
            if name and _read(self.root / name[1]) is None:
                with self._locked(name[1], None) as held:
                    if held and _read(self.root / name[1]) is None:
                        self._remove(name[1])

    def _look_up(self, digest: str, key: EngineKey) -> tuple[EngineMetadata | None, str | None]:
        plan = self.root / digest / PLAN
        if not plan.parent.is_dir():
            return None, self._nearest(key)
        try:
            for file in (plan, plan.with_suffix(".json")):
                if file.exists():
                    check_private(file)
            record = read_metadata(plan)
            if record.key.digest() == digest:
                return record, None
            reason = "its metadata belongs to another key"
        except BundleError as error:
            reason = error.what
        with _translate_errors(self.root):
            shutil.rmtree(plan.parent)
        return None, f"the cached engine was damaged ({reason})"

    def _nearest(self, key: EngineKey) -> str:
        """Return the differences from the nearest engine of the same stage and target."""
        keys = [entry.record.key for entry in self.entries()]
        alike = [one for one in keys if (one.target, one.stage) == (key.target, key.stage)]
        if not alike:
            return "no such engine was built before"
        nearest = min((key.differences(one) for one in alike), key=len)
        return "; ".join(nearest)

    def _add(self, digest: str, build: Callable[[Path], EngineMetadata]) -> EngineMetadata:
        with new_folder(self.root / digest, overwrite=False) as fresh:
            fresh.chmod(0o700)
            record = build(fresh / PLAN)
            with _translate_errors(self.root):
                text = record.to_json()
                (fresh / PLAN).with_suffix(".json").write_text(text, encoding="utf-8")
                for file in fresh.iterdir():
                    # An engine is code that runs in this process: only its owner may change it.
                    file.chmod(0o600)
        return record

    def _delete(self, digest: str) -> bool:
        with self._locked(digest, None) as held:
            if held:
                self._remove(digest)
            return held

    def _remove(self, digest: str) -> None:
        """Delete an engine and its lock, which this process owns."""
        shutil.rmtree(self.root / digest, ignore_errors=True)
        (self.root / f"{digest}.lock").unlink(missing_ok=True)

    @contextlib.contextmanager
    def _locked(self, digest: str, waiting: Callable[[], None] | None) -> Iterator[bool]:
        """Lock an engine; yield False if it is locked and ``waiting`` is None."""
        path = self.root / f"{digest}.lock"
        while True:
            with _translate_errors(path):
                file = path.open("a")
            with file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    if waiting is None:
                        yield False
                        return
                    waiting()
                    fcntl.flock(file, fcntl.LOCK_EX)
                # Another process may have deleted the file between opening and locking.
                if _same(path, file.fileno()):
                    yield True
                    return


def _read(folder: Path) -> Entry | None:
    """Return the engine of a directory; None if there is none, or if it has just been deleted."""
    if folder.name.startswith("."):  # not finished
        return None
    try:
        text = (folder / PLAN).with_suffix(".json").read_bytes()
        record, used = EngineMetadata.from_json(text), folder.stat().st_mtime
        size = sum(file.stat().st_size for file in folder.iterdir())
    except (BundleError, OSError):
        return None
    return Entry(digest=folder.name, record=record, size=size, used=used)


@contextlib.contextmanager
def _translate_errors(file: Path) -> Iterator[None]:
    """Turn an error of the file system into an ``InputError`` with a remedy."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"the engine cache cannot be written ({error.strerror})",
            file=error.filename or file,
            remedy=remedy_of(
                error, "choose another --cache", free="free some space with 'foveate cache prune'"
            ),
        ) from error


def _same(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
