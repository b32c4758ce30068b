# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from foveate.errors import BackendError, OptionError
from foveate.kernels import build
from foveate.kernels.build import CodeCache, compile_kernels, included_sources
from foveate.kernels.compilers import Choice

SOURCE = Path("plugins/roi_max_pool/roi_max_pool.cuh")


class Counting:
    """A compiler that counts its calls."""

    def __init__(self, version: str = "1", fails: bool = False) -> None:
        self.version, self.fails, self.calls = version, fails, 0

    def compile(
        self, source: Path, target: Path, *, include: Path, form: str, architecture: str
    ) -> str:
        self.calls += 1
        target.write_bytes(b"half")
        if self.fails:
            raise BackendError("stopped")
        target.write_bytes(f"{source.name} {form} {architecture}".encode())
        return f"log of {include.name}"


def test_compiled_code_is_not_compiled_again(tmp_path: Path) -> None:
    compiler = Counting()
    for _ in range(2):
        compiled = compile_kernels(
            SOURCE, form="ptx", architecture="sm_75", compiler=compiler, cache=CodeCache(tmp_path)
        )
        assert compiled.path.read_text() == "roi_max_pool.cuh ptx sm_75"
        assert compiled.log == "log of kernels"
    assert compiler.calls == 1


def test_form_architecture_and_compiler_are_part_of_the_key(tmp_path: Path) -> None:
    paths = {
        compile_kernels(
            SOURCE,
            form=form,
            architecture=architecture,
            compiler=Counting(version),
            cache=CodeCache(tmp_path),
        ).path
        for form in ("ptx", "cubin")
        for architecture in ("sm_75", "sm_89")
        for version in ("1", "2")
    }
    assert len(paths) == 8


def test_an_included_file_is_part_of_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "op").mkdir()
    (tmp_path / "op" / "a.cuh").write_text('#include "op/b.cuh"\n')
    header = tmp_path / "op" / "b.cuh"
    monkeypatch.setattr("foveate.kernels.build.FOLDER", tmp_path)
    compiler, cache = Counting(), CodeCache(tmp_path / "cache")
    for text in ("// one", "// two", "// one"):
        header.write_text(text)
        compile_kernels(
            Path("op/a.cuh"), form="ptx", architecture="sm_75", compiler=compiler, cache=cache
        )
    assert compiler.calls == 2
    assert list(included_sources(Path("op/a.cuh"))) == [Path("op/a.cuh"), Path("op/b.cuh")]


def test_code_for_an_unknown_architecture_is_named_by_its_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = Choice(Counting(), "ptx", "sm_121")
    monkeypatch.setattr(build, "choose_compiler", lambda *_: choice)
    compiled = compile_kernels(
        SOURCE, form="cubin", architecture="sm_130", cache=CodeCache(tmp_path)
    )
    assert compiled.form == "ptx"
    assert compiled.path.read_text() == "roi_max_pool.cuh ptx sm_121"


def test_a_compiler_that_stops_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="stopped"):
        compile_kernels(
            SOURCE,
            form="ptx",
            architecture="sm_75",
            compiler=Counting(fails=True),
            cache=CodeCache(tmp_path),
        )
    assert list(tmp_path.iterdir()) == []


def get_text(cache: CodeCache, text: str) -> str:
    def make(target: Path) -> str:
        target.write_text(text)
        return "log\nof two lines"

    return cache.get("key", "ptx", make).path.read_text()


@pytest.mark.parametrize("damage", ["cut", "changed", "no record", "record of bytes", "gone"])
def test_a_damaged_file_is_made_again(tmp_path: Path, damage: str) -> None:
    cache = CodeCache(tmp_path)
    assert get_text(cache, "first") == "first"
    assert get_text(cache, "second") == "first"
    path, record = cache._paths("key", "ptx")
    if damage == "cut":
        path.write_text("fir")
    elif damage == "changed":
        path.write_text("fIrst")
    elif damage == "no record":
        record.unlink()
    elif damage == "record of bytes":
        record.write_bytes(b"\xff\xfe")
    else:
        path.unlink()
    assert cache.find("key", "ptx") is None
    assert get_text(cache, "second") == "second"
    found = cache.find("key", "ptx")
    assert found is not None
    assert found.log == "log\nof two lines"


def test_writers_at_the_same_time_leave_one_whole_file(tmp_path: Path) -> None:
    cache = CodeCache(tmp_path)
    texts = [letter * 100_000 for letter in "abcdefgh"]
    with ThreadPoolExecutor(len(texts)) as pool:
        found = list(pool.map(lambda text: get_text(cache, text), texts))
    assert set(found) <= set(texts)
    assert get_text(cache, "later")[0] in "abcdefghl"
    (entry,) = tmp_path.iterdir()
    assert {path.name for path in entry.iterdir()} == {"code.ptx", "log"}


def test_a_full_disk_is_reported_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(
        BackendError, match=r"cannot be stored \(.*No space left.*free some space, or set"
    ):
        get_text(CodeCache(tmp_path), "text")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("part", ["", "code", "entry", "root"])
def test_code_that_other_users_could_have_changed_is_not_loaded(tmp_path: Path, part: str) -> None:
    tmp_path.chmod(0o755)
    cache = CodeCache(tmp_path / "made" / "kernels")
    before = os.umask(0)
    try:
        get_text(cache, "ours")
    finally:
        os.umask(before)
    code, _ = cache._paths("key", "ptx")
    places = {"code": code, "entry": code.parent, "root": tmp_path / "made"}
    for place in places.values():
        assert not place.stat().st_mode & 0o077
    if not part:
        assert get_text(cache, "again") == "ours"
        return
    places[part].chmod(0o777)
    with pytest.raises(BackendError, match="not loaded, because other users could change it"):
        cache.find("key", "ptx")


def test_the_rest_of_killed_compilations_is_deleted_by_the_next(tmp_path: Path) -> None:
    left = tmp_path / ".0123456789abcdef-cubin.0.partial"
    left.mkdir()
    (left / "code.cubin").write_text("half")
    get_text(CodeCache(tmp_path), "text")
    assert not left.exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = CodeCache(tmp_path / "file" / "folder")
    with pytest.raises(BackendError, match="cannot be stored .*folder: set FOVEATE_CACHE to a dir"):
        compile_kernels(SOURCE, form="ptx", architecture="sm_75", compiler=Counting(), cache=cache)


@pytest.mark.parametrize(
    ("form", "architecture", "words"),
    [
        ("sass", "sm_75", "form must be one of ptx, cubin, found 'sass'"),
        ("ptx", "", "architecture must be a name like sm_89, found ''"),
        ("ptx", "75", "found '75'"),
    ],
)
def test_unknown_forms_and_architectures_are_refused(
    form: str, architecture: str, words: str
) -> None:
    with pytest.raises(OptionError, match=words):
        compile_kernels(SOURCE, form=form, architecture=architecture, compiler=Counting())


@pytest.mark.parametrize(
    ("names", "folder"),
    [
        ({"FOVEATE_CACHE": "/here"}, "/here/kernels"),
        ({"XDG_CACHE_HOME": "/there"}, "/there/foveate/kernels"),
        ({}, str(Path.home() / ".cache/foveate/kernels")),
    ],
)
def test_the_environment_determines_the_folder_of_the_cache(
    names: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FOVEATE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    assert CodeCache.of_user().folder == Path(folder)
