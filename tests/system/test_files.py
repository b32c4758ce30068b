# SPDX-License-Identifier: Apache-2.0
"""Files and directories appear whole or not at all, and killed writers leave nothing for long."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest

from foveate.errors import BackendError, InputError, OptionError
from foveate.system import files
from foveate.system.files import check_writable, new_folder, open_output, write_file
from foveate.system.private_files import cache_folder, check_private
from foveate.system.regular_files import file_digest, open_regular

not_root = pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fill(target: Path, content: str, *, overwrite: bool = True) -> None:
    with new_folder(target, overwrite=overwrite) as folder:
        (folder / "a").write_text(content)
        (folder / "b").write_text(content)


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def killed_writer(code: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has printed a line and waits in the middle of its work."""
    head = "import time\nfrom pathlib import Path\nfrom foveate.system.files import *\n"
    wait = "print('there', flush=True)\n    time.sleep(60)\n"
    process = subprocess.Popen(
        [sys.executable, "-c", f"{head}{code}\n    {wait}"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "there\n"
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_file_is_written_with_its_folders_and_nothing_beside_it(tmp_path: Path) -> None:
    write_file(tmp_path / "new" / "folder" / "x.json", b"content")
    assert (tmp_path / "new" / "folder" / "x.json").read_bytes() == b"content"
    assert names(tmp_path / "new" / "folder") == ["x.json"]


def _fail_half_way(stream: BinaryIO) -> None:
    stream.write(b"new")
    raise BufferError


def test_an_exception_keeps_the_file_that_was_there(tmp_path: Path) -> None:
    write_file(tmp_path / "x", b"old")
    with pytest.raises(BufferError), open_output(tmp_path / "x") as stream:
        _fail_half_way(stream)
    assert (tmp_path / "x").read_bytes() == b"old"
    assert names(tmp_path) == ["x"]


def test_new_files_follow_the_umask_and_existing_ones_keep_their_mode(tmp_path: Path) -> None:
    with umask(0o027):
        write_file(tmp_path / "x", b"")
        assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640
        (tmp_path / "x").chmod(0o604)
        write_file(tmp_path / "x", b"again")
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o604


def test_of_a_link_the_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "dangling").symlink_to("made")
    write_file(tmp_path / "link", b"new")
    write_file(tmp_path / "dangling", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == (tmp_path / "made").read_text() == "new"


def test_a_chain_of_links_to_itself_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(InputError, match=r"the file cannot be written \(Too many levels.*loop"):
        write_file(tmp_path / "loop", b"")


def test_a_fifo_is_written_through_and_stays(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(fifo.read_bytes()))
    reader.start()
    write_file(fifo, b"through")
    reader.join(10)
    assert found == [b"through"]
    assert stat.S_ISFIFO(fifo.lstat().st_mode)


def test_a_device_is_written_through_and_stays(tmp_path: Path) -> None:
    node = tmp_path / "full"
    try:
        os.mknod(node, 0o666 | stat.S_IFCHR, os.makedev(1, 7))
    except PermissionError:
        pytest.skip("device nodes can only be made by root")
    with pytest.raises(InputError, match=r"\(No space left on device\): .*full"):
        write_file(node, b"x")
    assert stat.S_ISCHR(node.lstat().st_mode)


def test_an_open_descriptor_is_written_through() -> None:
    code = "from foveate.system.files import *; from pathlib import Path; print('a', flush=True)\n"
    code += "write_file(Path('/dev/stdout'), b'b'); print('c')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b"a\nbc\n"


def test_a_folder_in_place_of_a_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Is a directory"):
        write_file(tmp_path, b"")


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127, "\udce9.json", "🦋" * 63])
def test_names_of_every_length_and_encoding_can_be_written(tmp_path: Path, name: str) -> None:
    write_file(tmp_path / name, b"content")
    assert (tmp_path / name).read_bytes() == b"content"
    fill(tmp_path / "directories" / name, "content")
    assert names(tmp_path / "directories" / name) == ["a", "b"]


@pytest.mark.parametrize("name", ["x" * 256, "a\0b", "\ud800"])
def test_names_that_no_file_can_have_are_errors(tmp_path: Path, name: str) -> None:
    for act in (lambda path: write_file(path, b""), check_writable, lambda path: fill(path, "")):
        with pytest.raises(InputError, match="the file cannot be written"):
            act(tmp_path / name)


@pytest.mark.parametrize(
    "code",
    [
        "with open_output(Path({target!r})) as stream:\n    stream.write(b'half'); stream.flush()",
        "with new_folder(Path({target!r}), overwrite=True) as f:\n    (f / 'a').write_text('half')",
    ],
)
def test_the_next_writer_sweeps_what_a_killed_one_left_but_not_what_is_alive(
    tmp_path: Path, code: str
) -> None:
    target = tmp_path / "target"
    with killed_writer(code.format(target=str(target))) as process:
        assert len(names(tmp_path)) == 1
        assert not target.exists()
        fill(target, "while the other writes")
        assert len(names(tmp_path)) == 2
        process.send_signal(signal.SIGKILL)
        process.wait()
    fill(target, "afterwards")
    assert names(tmp_path) == ["target"]
    assert (target / "b").read_text() == "afterwards"


def test_a_folder_is_only_replaced_where_that_was_asked_for(tmp_path: Path) -> None:
    fill(tmp_path / "x", "old")
    with pytest.raises(InputError, match=r"\(Directory not empty\)"):
        fill(tmp_path / "x", "new", overwrite=False)
    assert (tmp_path / "x" / "a").read_text() == "old"
    (tmp_path / "empty").mkdir(mode=0o700)
    fill(tmp_path / "empty", "new", overwrite=False)
    assert stat.S_IMODE((tmp_path / "empty").stat().st_mode) == 0o700
    assert names(tmp_path) == ["empty", "x"]


@pytest.mark.parametrize("name", ["bundle", "./x/", "link", "../here/up"])
def test_folders_may_be_named_in_every_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    Path("link").symlink_to("../elsewhere")
    for content in ("old", "new"):
        fill(Path(name), content)
        assert (Path(name) / "a").read_text() == content
    assert Path("link").is_symlink()
    assert not list(tmp_path.rglob(".*"))


@pytest.mark.parametrize("name", [".", "..", "/"])
def test_the_working_directory_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(InputError, match="contains the working directory"):
        fill(Path(name), "")


READ = """
import sys, time
from pathlib import Path
target, until = Path(sys.argv[1]), time.monotonic() + float(sys.argv[2])
rounds = missing = 0
while time.monotonic() < until:
    rounds += 1
    missing += not target.is_dir()
print(rounds, missing)
"""
WRITE = """
import sys, time
from pathlib import Path
from foveate.system.files import new_folder
target, until, n = Path(sys.argv[1]), time.monotonic() + float(sys.argv[2]), 0
while time.monotonic() < until or n < 3:
    n += 1
    with new_folder(target, overwrite=True) as directory:
        (directory / "a").write_text(str(n))
print(n, 0)
"""


def test_a_folder_is_there_at_every_moment_while_two_writers_replace_it(tmp_path: Path) -> None:
    target = tmp_path / "target"
    fill(target, "first")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(target), "1.5"], stdout=subprocess.PIPE, text=True
        )
        for code in (WRITE, WRITE, READ)
    ]
    results = [[int(word) for word in one.communicate()[0].split()] for one in processes]
    assert [missing for _, missing in results] == [0, 0, 0]
    assert names(tmp_path) == ["target"]


def test_a_folder_that_is_replaced_while_its_writer_still_locks_it_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, install, other = tmp_path / "target", files._install, ExitStack()

    def install_and_be_replaced(fresh: Path, place: Path, overwrite: bool) -> None:
        install(fresh, place, overwrite)
        monkeypatch.setattr(files, "_install", install)
        other.close()

    monkeypatch.setattr(files, "_install", install_and_be_replaced)
    with new_folder(target, overwrite=True) as older:
        (older / "older").touch()
        newer = other.enter_context(new_folder(target, overwrite=True))
        (newer / "newer").touch()
    assert sorted(tmp_path.rglob("*")) == [target, target / "newer"]


def test_without_an_exchange_of_names_folders_are_replaced_and_recovered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_exchange", lambda *_: False)
    target = tmp_path / "target"
    fill(target, "old")
    fill(target, "new")
    assert (target / "a").read_text() == "new"
    assert names(tmp_path) == ["target"]
    # Killed between its two steps a writer leaves the old directory under another name.
    target.rename(files._beside(target, "old"))
    files.recover_folder(target)
    assert (target / "a").read_text() == "new"
    # Killed after them it leaves both.
    fill(files._beside(target, "old"), "older")
    fill(target, "newest")
    assert (target / "a").read_text() == "newest"
    assert names(tmp_path) == ["target"]


def test_checking_a_place_finds_what_is_wrong_and_leaves_nothing(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "directories" / "x.json")
    assert names(tmp_path) == []
    (tmp_path / "file").write_text("")
    check_writable(tmp_path / "file")
    for path in (tmp_path, tmp_path / "file" / "x", Path("/proc/nothing/x")):
        with pytest.raises(InputError, match="the file cannot be written"):
            check_writable(path)
    assert names(tmp_path) == ["file"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs procfs, as Linux has it")
def test_a_file_system_that_takes_no_files_is_an_error_with_its_reason() -> None:
    reason = "Permission denied" if os.geteuid() else "No such file or directory"
    with pytest.raises(InputError, match=rf"cannot be written \({reason}\): /proc/x"):
        write_file(Path("/proc/x.json"), b"content")


@not_root
def test_a_write_protected_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("kept")
    (tmp_path / "x").chmod(0o400)
    for act in (check_writable, lambda path: write_file(path, b"")):
        with pytest.raises(InputError, match=r"\(Permission denied\)"):
            act(tmp_path / "x")


def test_caches_are_folders_of_one_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path))
    assert cache_folder("engines") == tmp_path / "engines"
    monkeypatch.setenv("FOVEATE_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder("engines") == tmp_path / "foveate" / "engines"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for value in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert cache_folder("x") == tmp_path / "home" / ".cache" / "foveate" / "x"


def test_a_relative_folder_of_caches_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOVEATE_CACHE", "cache")
    with pytest.raises(OptionError, match="must be an absolute path, found 'cache': set FOVEATE_C"):
        cache_folder("kernels")


@pytest.mark.parametrize("part", ["folder/library.so", "folder", "."])
@pytest.mark.parametrize("mode", [0o777, 0o722, 0o702])
def test_what_others_may_write_is_not_loaded(tmp_path: Path, part: str, mode: int) -> None:
    library = tmp_path / "folder" / "library.so"
    write_file(library, b"")
    for path in (tmp_path, library.parent, library):
        path.chmod(0o700)
    check_private(library)
    (tmp_path / part).chmod(mode)
    with pytest.raises(BackendError, match=r"other users could change it: .*: run: chmod go-w"):
        check_private(library)


def test_what_belongs_to_somebody_else_is_not_loaded(tmp_path: Path) -> None:
    write_file(tmp_path / "library.so", b"")
    try:
        os.chown(tmp_path / "library.so", 12345, -1)
    except PermissionError:
        pytest.skip("only root can give files away")
    (tmp_path / "link").symlink_to("library.so")
    with pytest.raises(BackendError, match="other users could change it"):
        check_private(tmp_path / "link")


def test_a_digest_is_of_a_regular_file(tmp_path: Path) -> None:
    write_file(tmp_path / "x", b"content")
    assert file_digest(tmp_path / "x") == hashlib.sha256(b"content").hexdigest()
    os.mkfifo(tmp_path / "fifo")
    began = time.monotonic()
    for path in (tmp_path / "fifo", Path("/dev/zero"), tmp_path):
        with pytest.raises(OSError, match=r"not a regular file|Is a directory") as caught:
            open_regular(path)
        assert caught.value.errno in (errno.EINVAL, errno.EISDIR)
    assert time.monotonic() - began < 5


def test_what_is_refused_does_not_stay_open(tmp_path: Path) -> None:
    before = len(list(Path("/dev/fd").iterdir()))
    for path in (tmp_path, Path("/dev/zero")):
        with pytest.raises(OSError, match=r"not a regular file|Is a directory"):
            open_regular(path)
    assert len(list(Path("/dev/fd").iterdir())) == before
