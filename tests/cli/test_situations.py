# SPDX-License-Identifier: Apache-2.0
"""Unusual situations: consoles, pipes and full disks, and names and arguments of any kind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from foveate.cli import _files, invoke
from foveate.cli._files import Batch, DocumentFile
from foveate.errors import BackendError
from foveate.results.coco import CocoDocument


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def image(name: str | bytes, color: int = 2) -> str:
    pixels = np.zeros((120, 160, 3), np.uint8)
    pixels[30:80, 50:100, color] = 255
    _, encoded = cv2.imencode(".png", pixels)
    Path(os.fsdecode(name)).write_bytes(encoded.tobytes())
    return os.fsdecode(name)


def images_in(file: str = "found.json") -> list[str]:
    content = json.loads(Path(file).read_bytes().decode("utf-8"))
    names = [opened["file_name"] for opened in content["images"]]
    assert {one["image_id"] for one in content["annotations"]} <= set(range(1, len(names) + 1))
    assert "\\ud" not in Path(file).read_text("utf-8")
    return names


def shell(
    script: str, bundle: Path, *words: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a shell script in which "$@" is `foveate run` with these words."""
    command = [sys.executable, "-m", "foveate", "run", "--bundle", str(bundle), *words]
    done = subprocess.run(
        ["bash", "-c", script, "bash", *command],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, **environment},
        check=False,
    )
    assert "internal error" not in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    return done


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("encoding", ["utf-8:strict", "latin-1", "ascii"])
def test_names_that_the_console_cannot_show_are_escaped(
    contrast_bundle: Path, encoding: str
) -> None:
    names = [image(b"1caf\xe9.png"), image("日本.png"), image("e\x1b[31m\nn.png")]
    done = shell('"$@"', contrast_bundle, *names, "--json", "found.json", PYTHONIOENCODING=encoding)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("1caf\\xe9.png: red ")
    assert lines[2].startswith("e\\x1b[31m\\nn.png: red ")
    assert images_in() == ["1caf\\xe9.png", "日本.png", "e\x1b[31m\nn.png"]


@pytest.mark.usefixtures("folder")
def test_a_stdout_that_cannot_be_written_loses_no_image(contrast_bundle: Path) -> None:
    words = (image("a.png"), image("b.png"), "--json", "found.json")
    for place, status in (("/dev/full", 1), ("&-", 0), ("&- 2>&-", 0)):
        done = shell(f'"$@" >{place}', contrast_bundle, *words)
        assert done.returncode == status
        assert images_in() == ["a.png", "b.png"]
        assert done.stderr == (
            "foveate: standard output cannot be written (No space left on device): free some "
            "space, or redirect it elsewhere\n"
            if status
            else ""
        )
        Path("found.json").unlink()


@pytest.mark.usefixtures("folder")
def test_results_for_a_stdout_that_cannot_be_written_are_an_error(contrast_bundle: Path) -> None:
    name = image("a.png")
    done = shell('"$@" >&-', contrast_bundle, name, "--json", "-")
    assert done.returncode == 1
    assert done.stderr.endswith("standard output is closed: write the result to a file\n")
    done = shell('"$@" >/dev/full', contrast_bundle, name, "--json", "-")
    assert done.returncode == 1
    assert "standard output cannot be written (No space left on device)" in done.stderr


@pytest.mark.usefixtures("folder")
def test_a_closed_pipe_ends_the_run_and_keeps_its_results(contrast_bundle: Path) -> None:
    names = [image(f"{index:03}.png") for index in range(150)]
    script = '"$@" | head -1; echo ${PIPESTATUS[0]}'
    done = shell(script, contrast_bundle, *names, "--json", "found.json")
    first, status = done.stdout.splitlines()
    assert first.startswith("000.png: red ")
    assert status == "141"
    done_before = images_in()
    assert 1 <= len(done_before) < 150
    assert done_before == names[: len(done_before)]


# `ulimit -v` before the start fails at whichever allocation comes last: if that is the thread-local
# data of a library, the loader of glibc ends the process with status 127. Here the limit follows the
# imports, and leaves half of the stack of a thread: small allocations succeed, and no thread starts.
SHORT = """
import resource, sys
from pathlib import Path
import cv2, onnxruntime
from foveate.cli import invoke
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (128 << 20),) * 2)
sys.exit(invoke(sys.argv[1:]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs limits of Linux")
def test_a_shortage_is_named_with_its_remedy(folder: Path) -> None:
    name = image(str(folder / "a.png"))
    script = 'ulimit -s $((256 * 1024)); "$1" -c "$SHORT" "${@:4}"'  # without `-m foveate`
    done = shell(script, Path("mini"), name, SHORT=SHORT)
    assert done.returncode == 1
    assert "there is not enough memory" in done.stderr
    assert "free some memory, raise its limit" in done.stderr
    assert done.stderr.startswith("foveate: ")
    assert "export the bundle" not in done.stderr
    done = shell('ulimit -n 10; "$@"', Path("mini"), name)
    assert done.returncode == 1
    assert done.stderr == "foveate: too many files are open: raise the limit: ulimit -n 1024\n"


def test_an_existing_bundle_is_noticed_before_the_export(
    contrast_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["export", "nowhere.safetensors", "--output", str(contrast_bundle)]) == 1
    assert "the bundle already exists" in capsys.readouterr().err


def test_a_deleted_working_directory_is_one_line(folder: Path, contrast_bundle: Path) -> None:
    name = image(str(folder / "a.png"))
    script = 'mkdir gone && cd gone && rmdir ../gone; "$@"'
    done = shell(script, contrast_bundle, name)
    assert done.returncode == 1
    assert "cannot be written (No such file or directory)" in done.stderr
    done = shell(script, contrast_bundle, name, "--json", str(folder / "found.json"))
    assert done.returncode == 0
    assert images_in() == [name]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "a.png", "--bundle", ""], "--bundle is empty: give it a value, or omit it"),
        (["run", "a.png", "--json="], "--json is empty: give it a value, or omit it"),
        (["inspect", ""], "an argument is empty: give it a value"),
        (["doctor", "--output", "a"], "doctor without --gpu-selftest takes no --output: pass"),
        (["demo", "--output", "a.png"], "the file cannot be written (Not a directory): a.png: "),
        (["demo", "--bundle", "./" + 300 * "x"], "there is no such bundle: ./xxx"),
        (
            ["run", "a.png", "--json", "a.png"],
            "the output would overwrite an input: a.png: choose another file",
        ),
        (["run", "a.png", "--json", "."], "the file cannot be written (Is a directory): .: "),
        (["export", "mini", "--output", "a.png/b"], "cannot be written (Not a directory): a.png/b"),
        (
            ["import-torch", "a.png", "--output", "a.png"],
            "the output would overwrite an input: a.png",
        ),
        (["evaluate", "--dataset", "a", "--json", "a.png/b"], "cannot be written (Not a directory"),
        (["verify", "mini", "--report", "a.png/b"], "cannot be written (Not a directory): a.png/b"),
    ],
)
def test_wrong_arguments_and_outputs_are_one_line_before_any_work(
    words: Sequence[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    content = Path(image("a.png")).read_bytes()
    assert invoke(words) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("foveate: ")
    assert message in err
    assert err.count("\n") == 1
    assert Path("a.png").read_bytes() == content
    assert [path.name for path in Path().iterdir()] == ["a.png"]


@pytest.mark.usefixtures("folder")
def test_a_failed_overlay_affects_no_other_image(
    contrast_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [image(f"{'x' * 250}.png"), image("b.png")]
    words = ["--bundle", str(contrast_bundle), "--output", "out", "--json", "found.json"]
    assert invoke(["run", *names, *words]) == 1
    assert "the image failed (the file cannot be written (File name too long)" in (
        capsys.readouterr().err
    )
    assert images_in() == names
    assert [path.name for path in Path("out").iterdir()] == ["b-overlay.jpg"]


@pytest.mark.usefixtures("folder")
def test_an_overlay_never_replaces_an_input(contrast_bundle: Path) -> None:
    names = [image("a.png"), image("a-overlay.jpg")]
    before = Path("a-overlay.jpg").read_bytes()
    assert invoke(["run", *names, "--bundle", str(contrast_bundle), "--output", "."]) == 0
    assert Path("a-overlay.jpg").read_bytes() == before
    assert Path("a-overlay-2.jpg").exists() or Path("a-2-overlay.jpg").exists()


class Failing:
    """A pipeline that fails on images of one color, when their result is requested."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def stream(self, images: Iterable[Any]) -> Iterator[str]:
        flying: list[Any] = []
        for one in images:
            flying.append(one)
            if len(flying) == 2:
                yield self.result(flying.pop(0))
        while flying:
            yield self.result(flying.pop(0))

    def result(self, pixels: Any) -> str:
        if pixels[40, 60, 1]:
            raise self.error
        return "found"


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("error", "message"),
    [
        (BackendError("it broke", remedy="mend it"), "the image failed (it broke: mend it): g"),
        (MemoryError(), "there is not enough memory: g"),
    ],
)
def test_an_image_that_fails_affects_no_other_image(error: Exception, message: str) -> None:
    green = 1
    for name, color in (("a", 0), ("g1", green), ("g2", green), ("h", 2), ("i", 0), ("g3", green)):
        image(f"{name}.png", color)
    batch = Batch(["."])
    done = [file.name for file, _, _ in batch.run(Failing(error))]
    assert done == ["a.png", "h.png", "i.png"]
    assert [str(one).startswith(message) for one in batch.failures] == [True] * 3


def test_the_json_file_is_updated_at_a_bounded_cost(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(_files, "time", SimpleNamespace(monotonic=lambda: clock.now))
    written: list[int] = []

    def write(_path: Path, content: bytes) -> None:
        written.append(len(json.loads(content)["images"]))
        clock.now += 1.0

    monkeypatch.setattr(_files, "write_file", write)
    document = CocoDocument(("red",))
    file = DocumentFile(str(folder / "found.json"), document)
    nothing = SimpleNamespace(masks=np.zeros((0, 4, 4), bool), to_coco=lambda _: [])
    for index in range(100):
        document.add(f"{index}.png", nothing)  # type: ignore[arg-type]  # a stand-in
        clock.now += 1.0
        file.update()
    file.finish()
    file.finish()
    assert written[0] == 1
    assert written[-1] == 100
    assert len(written) <= 100 * 0.05 + 2


@pytest.mark.usefixtures("folder")
def test_results_go_through_links_and_pipes(contrast_bundle: Path) -> None:
    names = [image("a.png"), image("b.png")]
    Path("real.json").write_text("before")
    Path("link.json").symlink_to("real.json")
    os.mkfifo("fifo")
    words = ["--bundle", str(contrast_bundle)]
    assert invoke(["run", *names, *words, "--json", "link.json"]) == 0
    assert Path("link.json").is_symlink()
    assert images_in("real.json") == names
    with subprocess.Popen(["cat", "fifo"], stdout=subprocess.PIPE) as reader:
        assert invoke(["run", *names, *words, "--json", "fifo"]) == 0
        assert reader.stdout is not None
        assert len(json.loads(reader.stdout.read())["images"]) == 2
    assert Path("fifo").is_fifo()
