# SPDX-License-Identifier: Apache-2.0
"""Who may send requests: keys, names of the host, origins of pages, and TLS."""

from __future__ import annotations

import http.client
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from tests.samples.serving import document, encoded, send, server_thread, square

import foveate
from foveate.cli import invoke
from foveate.errors import InputError, OptionError
from foveate.serve import ServeOptions, create_app
from foveate.serve.server import LOOPBACK, Address, read_keys

FILE = encoded(square())
KEY, OTHER_KEY = "0123456789abcdef-one", "0123456789abcdef-two"
PAGE = "https://pages.example"


@pytest.fixture(scope="module")
def guarded(contrast_bundle: Path) -> Iterator[str]:
    options = ServeOptions(keys=(KEY, OTHER_KEY))
    with (
        foveate.load(contrast_bundle) as pipeline,
        server_thread(create_app([pipeline], options), options) as url,
    ):
        yield url


@pytest.fixture(scope="module")
def local(contrast_bundle: Path) -> Iterator[str]:
    options = ServeOptions(hosts=LOOPBACK, origins=(PAGE,))
    with (
        foveate.load(contrast_bundle) as pipeline,
        server_thread(create_app([pipeline], options), options) as url,
    ):
        yield url


@pytest.mark.parametrize("key", [KEY, OTHER_KEY])
def test_each_key_opens_the_server(guarded: str, key: str) -> None:
    assert send(guarded, "/v1/objects", FILE, {"Authorization": f"Bearer {key}"}).status == 200


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (None, "no key"),
        (f"Bearer {KEY}x", "another one"),
        (f"Bearer {KEY[:-1]}", "another one"),
        (f"Basic {KEY}", "another one"),
        ("Bearer", "another one"),
        ("Bearer gr\xf6\xdfer", "another one"),
    ],
)
def test_nothing_else_opens_it(guarded: str, header: str | None, found: str) -> None:
    headers = {} if header is None else {"Authorization": header}
    answer = send(guarded, "/v1/objects", FILE, headers)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert document(answer)["error"]["found"] == found
    assert KEY not in answer.body.decode()


@pytest.mark.parametrize("path", ["/metrics", "/v1/bundle", "/openapi.json", "/v2", "/none"])
def test_all_but_health_and_the_page_need_a_key(guarded: str, path: str) -> None:
    assert send(guarded, path).status == 401
    if path == "/v2":
        assert "expected a key that the server knows" in document(send(guarded, path))["error"]


@pytest.mark.parametrize("path", ["/", "/v2/health/live", "/v2/health/ready"])
def test_health_and_the_page_need_none(guarded: str, path: str) -> None:
    assert send(guarded, path).status == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "[::1", ""])
def test_a_server_for_this_machine_answers_to_its_names_only(local: str, host: str) -> None:
    """Otherwise a page could let its own name point here, and read the answers."""
    answer = send(local, "/v1/bundle", headers={"Host": host})
    assert answer.status == 403
    error = document(answer)["error"]
    assert error["found"] == f"Host: {host}"
    assert error["remedy"] == "allow it by --key-file or --no-key of the server"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:9", "[::1]:8000"])
def test_its_names_have_any_port(local: str, host: str) -> None:
    assert send(local, "/v1/bundle", headers={"Host": host}).status == 200


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost:1", "http://[malformed"]
)
def test_pages_of_other_servers_are_refused(local: str, origin: str) -> None:
    answer = send(local, "/v1/objects", FILE, {"Origin": origin})
    assert answer.status == 403
    assert "access-control-allow-origin" not in answer.headers
    remedy = document(answer)["error"]["remedy"]
    assert remedy == "allow it by --allow-origin of the server"


def test_the_page_of_the_server_is_allowed(local: str) -> None:
    assert send(local, "/v1/objects", FILE, {"Origin": local}).status == 200


def test_a_named_origin_is_allowed_and_may_read_the_answer(local: str) -> None:
    answer = send(local, "/v1/objects", FILE, {"Origin": PAGE})
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, PAGE)
    preflight = send(
        local,
        "/v1/objects",
        method="OPTIONS",
        headers={
            "Origin": PAGE,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization",
        },
    )
    assert preflight.status == 200
    assert "authorization" in preflight.headers["access-control-allow-headers"].lower()


@pytest.mark.parametrize(
    ("origin", "method", "headers", "allowed"),
    [
        ("https://evil.example", "POST", "authorization", None),
        (PAGE, "DELETE", "authorization", PAGE),
        (PAGE, "POST", "x-other", PAGE),
    ],
)
def test_a_refused_preflight_is_json(
    local: str, origin: str, method: str, headers: str, allowed: str | None
) -> None:
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": headers,
    }
    answer = send(local, "/v1/objects", method="OPTIONS", headers=asked)
    assert (answer.status, answer.headers["content-type"]) == (400, "application/json")
    assert answer.headers.get("access-control-allow-origin") == allowed
    error = document(answer)["error"]
    assert error["expected"].startswith(
        "GET or POST from a page that the server allows, with the headers accept, "
    )
    assert error["found"] == (
        f"origin: {origin}, access-control-request-method: {method}, "
        f"access-control-request-headers: {headers}"
    )
    assert error["remedy"] == (
        "omit other headers, or allow the page by --allow-origin of the server"
    )


def test_an_address_that_others_reach_needs_a_decision(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["serve", "--host", "0.0.0.0"]) == 1  # noqa: S104 - refused
    assert capsys.readouterr().err == (
        "foveate: other machines reach 0.0.0.0, and no key is set: pass --key-file FILE, or "
        "--no-key to let anybody send requests\n"
    )


def test_a_key_and_none_exclude_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["serve", "--no-key", "--key-file", str(tmp_path)]) == 1
    assert "--key-file and --no-key exclude each other" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_keys_are_read_without_comments_and_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# of the camera\n{KEY}\n\n  {OTHER_KEY}\n", encoding)
    assert read_keys(file) == (KEY, OTHER_KEY)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "of at least 16 characters without spaces, one per line, found none: "),
        (b"short\n", "found a shorter one, or one with other characters: .*: make one: openssl"),
        (b"two words of some length\n", "found a shorter one"),
        (b"\xff\xfe", "the keys cannot be read \\(it is not text\\)"),
        (None, "the keys cannot be read \\(No such file or directory\\): .*keys: check the path"),
    ],
)
def test_bad_keys_are_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_keys(file)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    files = folder / "certificate.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command_line = [*command.split(), *name, "-out", str(files[0]), "-keyout", str(files[1])]
    subprocess.run(command_line, check=True, capture_output=True)
    return files


def test_a_certificate_gives_tls(contrast_bundle: Path, certificate: tuple[Path, Path]) -> None:
    public, private = map(str, certificate)
    address = Address(port=0, certificate=public, certificate_key=private)
    options = ServeOptions()
    with server_thread(create_app(contrast_bundle, options), options, address) as url:
        assert url.startswith("https://127.0.0.1:")
        context = ssl.create_default_context(cafile=public)
        port = int(url.rpartition(":")[2])
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=context)
        connection.request("POST", "/v1/objects", FILE)
        assert connection.getresponse().status == 200
        connection.close()


def test_a_certificate_that_cannot_be_used_is_one_line(
    certificate: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    public, _ = certificate
    nonsense = tmp_path / "key.pem"
    nonsense.write_text("nonsense", "utf-8")
    words = ["--port", "0", "--certificate", str(public), "--certificate-key", str(nonsense)]
    assert invoke(["serve", *words]) == 1
    err = capsys.readouterr().err
    assert err.startswith("foveate: the certificate and its key cannot be used (")
    assert err.endswith("pass PEM files that belong together\n")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"port": 70_000}, "port must lie in 0..65535, found 70000"),
        ({"max_connections": 0}, "max_connections must be at least 1, found 0"),
        ({"certificate": "file"}, "a certificate needs its private key, found one of them"),
    ],
)
def test_wrong_addresses_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Address(**values)


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)],  # noqa: S104 - nothing is bound
)
def test_addresses_of_this_machine_are_known(host: str, *, is_loopback: bool) -> None:
    assert Address(host=host).is_loopback is is_loopback
