# SPDX-License-Identifier: Apache-2.0
"""The begin and the end of ``foveate serve``, and its application in other hosts."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from tests.samples.serving import (
    ServerProcess,
    document,
    encoded,
    send,
    server_process,
    server_thread,
    square,
    until,
)

from foveate.cli import invoke
from foveate.errors import OptionError
from foveate.serve import ServeOptions, create_app

FILE = encoded(square())


def begin(running: ServerProcess) -> socket.socket:
    """Send a request up to the middle of its body, so that the server works on it."""
    host, _, port = running.url.removeprefix("http://").partition(":")
    client = socket.create_connection((host, int(port)), timeout=30)
    head = f"POST /v1/objects HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(FILE)}\r\n\r\n"
    client.sendall(head.encode() + FILE[:50])
    waiting = 'nv_inference_pending_request_count{model="foveate",version="1"} 1.0'
    until(lambda: waiting in send(running.url, "/metrics").body.decode())
    return client


def test_a_signal_lets_the_server_finish_its_requests(
    contrast_bundle: Path, tmp_path: Path
) -> None:
    with server_process(contrast_bundle, tmp_path) as running, closing(begin(running)) as client:
        assert send(running.url, "/v2/health/ready").status == 200
        running.process.send_signal(signal.SIGTERM)
        running.logged(event="draining")
        refused = send(running.url, "/v2/health/ready")
        assert refused.status == 503
        assert "found one that is shutting down" in document(refused)["error"]
        assert send(running.url, "/v2/health/live").status == 200
        refused = send(running.url, "/v1/objects", FILE)
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        client.sendall(FILE[50:])
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
        assert running.process.wait(30) == 0


def test_a_trace_has_the_identifier_of_each_request(contrast_bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    with server_process(contrast_bundle, tmp_path, "--trace", str(file)) as running:
        for name in ("first", "second"):
            send(running.url, "/v1/objects", FILE, {"X-Request-Id": name})
        send(running.url, "/v1/bundle")
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(30) == 0
    events = json.loads(file.read_text("utf-8"))["traceEvents"]
    for name in ("first", "second"):
        mine = [one for one in events if one.get("args", {}).get("request") == name]
        parts = {one["name"] for one in mine if one["ph"] == "b"}
        assert parts == {"/v1/objects", "waiting", "decode", "pipeline", "encode"}
        (begin,) = [one["ts"] for one in mine if (one["ph"], one["name"]) == ("b", "pipeline")]
        (end,) = [one["ts"] for one in mine if (one["ph"], one["name"]) == ("e", "pipeline")]
        work = [one for one in mine if one["ph"] == "X"]
        networks = {one["name"] for one in work if one["cat"] == "network"}
        assert networks == {"propose", "refine", "features", "classify"}
        assert all(begin <= one["ts"] <= one["ts"] + one["dur"] <= end for one in work)
    assert {one["args"].get("request") for one in events if one["ph"] != "M"} == {"first", "second"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_server_ends_at_once(
    contrast_bundle: Path, tmp_path: Path, number: signal.Signals
) -> None:
    with server_process(contrast_bundle, tmp_path) as running:
        running.process.send_signal(number)
        assert running.process.wait(30) == 0
        assert running.logged(event="draining")["level"] == "info"


def test_a_second_signal_ends_it_in_the_middle(contrast_bundle: Path, tmp_path: Path) -> None:
    with server_process(contrast_bundle, tmp_path) as running, closing(begin(running)):
        running.process.send_signal(signal.SIGTERM)
        running.logged(event="draining")
        time.sleep(0.4)  # a signal that comes sooner is taken for the same
        assert running.process.poll() is None
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(30) == 128 + signal.SIGTERM


def test_a_port_in_use_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert invoke(["serve", "--port", str(port)]) == 1
    assert capsys.readouterr().err == (
        f"foveate: the server cannot listen at 127.0.0.1:{port} (Address already in use): pass "
        "another --host or --port, or end what uses it\n"
    )


def test_an_unknown_host_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["serve", "--host", "no-such-host.invalid", "--no-key"]) == 1
    assert "the server cannot listen at no-such-host.invalid:8000 (" in capsys.readouterr().err


def test_a_missing_bundle_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["serve", str(tmp_path / "none"), "--port", "0"]) == 1
    assert capsys.readouterr().err.startswith("foveate: ")


@pytest.mark.parametrize("module", ["starlette", "uvicorn", "prometheus_client"])
def test_a_missing_package_is_one_line(module: str) -> None:
    code = f"import sys; sys.modules[{module!r}] = None; from foveate.cli import invoke"
    command = [sys.executable, "-c", f"{code}; sys.exit(invoke(['serve']))"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        f"foveate: the module {module!r} is not installed: run: pip install 'foveate[serve]'\n"
    )


def test_a_host_opens_the_pipelines_of_a_bundle(contrast_bundle: Path) -> None:
    options = ServeOptions(model="finder", workers=2, score_threshold=0.4)
    with server_thread(create_app(contrast_bundle, options), options) as url:
        assert document(send(url, "/v1/bundle"))["score_threshold"] == 0.4
        found = document(send(url, "/v1/objects", FILE))["objects"]
        assert all(one["score"] >= 0.4 for one in found)
        assert send(url, "/v1/objects?score_threshold=0.05", FILE).status == 200
        assert send(url, "/v1/objects?score_threshold=0.04", FILE).status == 400
        assert 'foveate_slots{model="finder",version="1"} 2.0' in metrics(url)


def metrics(url: str) -> str:
    return send(url, "/metrics").body.decode()


def test_an_application_needs_a_pipeline() -> None:
    with pytest.raises(OptionError, match="expected at least one pipeline, found none"):
        create_app([])


AFTER_THE_MAIN_THREAD = """
import sys, threading, time, urllib.request
import uvicorn
from foveate.serve import create_app

bundle, image, start = sys.argv[1:]

def serve():
    if start == "late":
        threading.main_thread().join()
    server.run(sockets=[bound])

def ask():
    threading.main_thread().join()
    while not server.started and serving.is_alive():
        time.sleep(0.01)
    url = f"http://127.0.0.1:{bound.getsockname()[1]}/v1/objects"
    request = urllib.request.Request(url, open(image, "rb").read(), {"Content-Type": "image/png"})
    print([urllib.request.urlopen(request, timeout=30).status for _ in range(2)])
    server.should_exit = True

config = uvicorn.Config(create_app(bundle), port=0, log_level="error")
server, bound = uvicorn.Server(config), config.bind_socket()
serving = threading.Thread(target=serve)
serving.start()
while start == "early" and not server.started:
    time.sleep(0.01)
threading.Thread(target=ask).start()
"""


@pytest.mark.parametrize("start", ["early", "late"])
def test_a_server_in_a_thread_outlives_the_main_thread(
    contrast_bundle: Path, tmp_path: Path, start: str
) -> None:
    (image := tmp_path / "square.png").write_bytes(FILE)
    program = [sys.executable, "-c", AFTER_THE_MAIN_THREAD]
    words = [*program, str(contrast_bundle), str(image), start]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "[200, 200]\n"), done.stderr
