# SPDX-License-Identifier: Apache-2.0
"""The client on real servers over loopback, and on sockets that misbehave."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import TypeAlias

import numpy as np
import pytest
from tests.samples.served import inference_server, seen, socket_that_answers

from foveate.errors import OptionError, ServerError
from foveate.protocol.client import BusyError, InferenceClient
from foveate.protocol.connection import Connection, ServerUrl
from foveate.protocol.tensors import Message, encode_message

Make: TypeAlias = Callable[..., InferenceClient]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with inference_server() as url:
        yield url


@pytest.fixture
def client() -> Iterator[Make]:
    """Make clients, which are closed after the test."""
    with ExitStack() as stack:

        def make(url: str, model: str = "sleep", *, timeout: float = 60.0) -> InferenceClient:
            made = InferenceClient(ServerUrl.parse(url), model, timeout=timeout)
            return stack.enter_context(closing(made))

        yield make


def request() -> Message:
    image = np.zeros((8, 8, 3), np.uint8)
    return encode_message({}, "inputs", {"image": image}, binary=("image",))


def test_metadata_of_server_and_model(client: Make, server: str) -> None:
    about, model = client(server).open()
    assert (about.name, about.version, about.extensions) == (
        "samples",
        "1.2",
        ("binary_tensor_data",),
    )
    assert (model.name, model.versions, model.platform) == ("sleep", ("1",), "tests")
    (image,) = model.inputs
    assert (image.name, image.datatype, image.shape) == ("image", "UINT8", (-1, -1, 3))
    assert image.fits((7, 9, 3))
    assert not image.fits((7, 9, 4))
    assert not image.fits((7, 9))


def test_outputs_of_an_inference(client: Make, server: str) -> None:
    one = client(server)
    sent = []
    answer = one.infer(request(), on_sent=lambda: sent.append(True))
    assert {name: array.shape for name, array in one.outputs(answer).items()} == {
        "boxes": (0, 4),
        "scores": (0,),
        "labels": (0,),
        "rle": (0,),
    }
    assert sent == [True]


def test_the_client_of_the_vendor_reads_what_we_write(server: str) -> None:
    """So that both ends of the sample server, and of our client, are those of the protocol."""
    http = pytest.importorskip(
        "tritonclient.http", reason="needs the packages tritonclient and geventhttpclient"
    )
    with http.InferenceServerClient(server.removeprefix("http://")) as theirs:
        assert theirs.is_server_live()
        assert theirs.is_model_ready("sleep")
        assert theirs.get_model_metadata("sleep")["platform"] == "tests"
        image = http.InferInput("image", [8, 8, 3], "UINT8")
        image.set_data_from_numpy(np.zeros((8, 8, 3), np.uint8))
        for binary in (True, False):
            names = ("boxes", "rle")
            outputs = [http.InferRequestedOutput(one, binary_data=binary) for one in names]
            found = theirs.infer("sleep", [image], outputs=outputs)
            assert found.as_numpy("boxes").shape == (0, 4)
            assert found.as_numpy("scores") is None


def test_a_refusal_says_when_to_come_back(client: Make, server: str) -> None:
    with pytest.raises(BusyError, match="refused a request with the status 503") as caught:
        client(server, "full").infer(request())
    assert (caught.value.status, caught.value.retry_after) == (503, 0.0)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            "none",
            r"the server 'samples' has no model 'none' \(status 404: unknown model none\): pa",
        ),
        (
            "loading",
            r"the model 'loading' at http://.* is not ready \(status 503\): wait until /v2",
        ),
    ],
)
def test_a_model_that_is_not_there_is_refused(
    client: Make, server: str, model: str, message: str
) -> None:
    with pytest.raises(ServerError, match=message):
        client(server, model).open()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("failing", r"/infer answered with an error \(status 500: the device is lost\): look into"),
        ("cut", r"the connection to http://.* was lost \(IncompleteRead\(4 bytes read, 96 more"),
        ("foreign", r"a message that is not of the protocol \(the message is not JSON"),
    ],
)
def test_a_failed_inference_is_one_line(
    client: Make, server: str, model: str, message: str
) -> None:
    one = client(server, model)
    with pytest.raises(ServerError, match=message) as caught:
        one.outputs(one.infer(request()))
    assert "\n" not in str(caught.value)


def test_a_server_of_something_else_is_named(client: Make, server: str) -> None:
    with pytest.raises(ServerError, match="does not speak the Open Inference Protocol: GET /v2 ga"):
        client(f"{server}/elsewhere").open()


def test_a_server_that_starts_is_not_ready(client: Make) -> None:
    busy = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
    with (
        socket_that_answers(busy) as url,
        pytest.raises(ServerError, match=r"the server at .* is not ready \(status 503\): wait"),
    ):
        client(url).open()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", r"the connection to http://127.0.0.1:\d+ was lost \(Remote end closed connection"),
        (b"SSH-2.0-OpenSSH\r\n", r"what listens at .* does not speak HTTP \(BadStatusLine\): che"),
        (None, r"http://127.0.0.1:\d+ sent nothing for 0.2 s: check the URL and the server's log"),
    ],
)
def test_a_socket_that_misbehaves_is_one_line(
    client: Make, answer: bytes | None, message: str
) -> None:
    with socket_that_answers(answer) as url, pytest.raises(ServerError, match=message):
        client(url, timeout=0.2).open()


def test_nothing_listens(client: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ServerError, match=f"nothing listens at http://127.0.0.1:{port}: start the"):
        client(f"http://127.0.0.1:{port}").open()


@pytest.mark.parametrize("host", ["..", "a" * 70, "no-such-host.invalid"])
def test_an_unknown_host_is_one_line(client: Make, host: str) -> None:
    with pytest.raises(ServerError, match=r"the host '.*' is unknown \(.*\): check the URL"):
        client(f"http://{host}:8000").open()


def test_plain_text_is_no_tls(client: Make) -> None:
    with (
        socket_that_answers(OK) as url,
        pytest.raises(ServerError, match="there is no secure connection to https://127.0.0.1"),
    ):
        client(url.replace("http", "https")).open()


def test_a_connection_is_kept(server: str) -> None:
    connection = Connection(ServerUrl.parse(server), 60.0)
    ports = set()
    for _ in range(3):
        assert connection.request("GET", "/v2/health/live").status == 200
        assert connection._http.sock is not None
        ports.add(connection._http.sock.getsockname()[1])
    assert len(ports) == 1
    connection.close()


def test_a_connection_that_the_server_closed_is_opened_again() -> None:
    """Each connection of this socket has one answer, though HTTP/1.1 promises more."""
    with socket_that_answers(OK, OK) as url:
        connection = Connection(ServerUrl.parse(url), 60.0)
        assert [connection.request("GET", "/").body for _ in range(2)] == [b"ab", b"ab"]
        connection.close()


def test_connections_are_shared_by_threads_one_at_a_time(client: Make, server: str) -> None:
    before = seen(server)["requests"].get("sleep", 0)
    one = client(server)
    for _ in range(3):
        one.infer(request())
    assert len(one._idle) == 1
    assert seen(server)["requests"]["sleep"] == before + 3
    one.close()
    assert not one._idle


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("http://localhost", "http://localhost:80"),
        ("https://example.org/prefix/", "https://example.org:443/prefix"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("http://localhost/a b/größer%20", "http://localhost:80/a%20b/gr%C3%B6%C3%9Fer%20"),
    ],
)
def test_a_url_is_read(text: str, parsed: str) -> None:
    assert str(ServerUrl.parse(text)) == parsed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "grpc://localhost:8001",
            "a URL must begin with http:// or https:// and name a host, found",
        ),
        ("localhost:8000", "must begin with http://"),
        ("http://", "and name a host"),
        ("http://localhost:port", "cannot be read"),
        ("http://localhost:99999", "cannot be read"),
        ("http://[::1", "cannot be read"),
        (
            "http://me:secret@localhost",
            "has a user, a query or a fragment, which are not sent: pass",
        ),
        ("http://localhost/?a=b", "has a user, a query or a fragment"),
    ],
)
def test_a_bad_url_is_refused(text: str, message: str) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        ServerUrl.parse(text)
    assert "secret" not in str(caught.value)
