# SPDX-License-Identifier: Apache-2.0
"""The manifest for KServe: what it names exists, and its fields are those of KServe."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from tests.samples.packages import install
from tests.samples.paths import ROOT
from tests.samples.served_options import routes, unknown_options, value_of

from foveate.serve import ServeOptions

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")

FILE = ROOT / "examples" / "kserve.yaml"
KINDS = {"ServingRuntime": "V1alpha1ServingRuntime", "InferenceService": "V1beta1InferenceService"}
SCALARS: dict[str, Any] = {"str": str, "int": int, "float": (int, float), "bool": bool}


@pytest.fixture(scope="module")
def documents() -> dict[str, Any]:
    """The documents by their kind."""
    found = list(yaml.safe_load_all(FILE.read_text(encoding="utf-8")))
    assert [one["kind"] for one in found] == list(KINDS)
    return {one["kind"]: one for one in found}


@pytest.fixture
def container(documents: dict[str, Any]) -> dict[str, Any]:
    (one,) = documents["ServingRuntime"]["spec"]["containers"]
    assert one["name"] == "kserve-container"
    return dict(one)


def test_the_server_understands_its_arguments(
    container: dict[str, Any], documents: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    words = container["args"]
    assert all(isinstance(word, str) for word in words)
    assert unknown_options(words, capsys) == []
    service = documents["InferenceService"]["metadata"]["name"]
    ServeOptions(model=value_of(words, "--model-name").replace("{{.Name}}", service))


def test_probes_and_metrics_are_routes_at_the_port_of_the_server(
    container: dict[str, Any], documents: dict[str, Any]
) -> None:
    port = int(value_of(container["args"], "--port"))
    assert [one["containerPort"] for one in container["ports"]] == [port]
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("readiness", "liveness")}
    assert {probe["port"] for probe in probes.values()} == {port}
    assert probes["readiness"]["path"].endswith("/ready")
    assert probes["liveness"]["path"].endswith("/live")
    scraped = documents["ServingRuntime"]["spec"]["annotations"]
    assert int(scraped["prometheus.kserve.io/port"]) == port
    paths = {scraped["prometheus.kserve.io/path"], *(probe["path"] for probe in probes.values())}
    assert paths <= routes()


def test_the_service_uses_the_runtime_and_scales_by_the_slots(documents: dict[str, Any]) -> None:
    runtime, service = documents["ServingRuntime"], documents["InferenceService"]
    predictor = service["spec"]["predictor"]
    assert predictor["model"]["runtime"] == runtime["metadata"]["name"]
    formats = {one["name"] for one in runtime["spec"]["supportedModelFormats"]}
    assert predictor["model"]["modelFormat"]["name"] in formats
    assert predictor["model"]["protocolVersion"] in runtime["spec"]["protocolVersions"]
    assert predictor["scaleTarget"] == 2  # the slot and the place in the queue of a CPU
    assert predictor["terminationGracePeriodSeconds"] > ServeOptions().timeout


@pytest.mark.slow
def test_the_fields_are_those_of_kserve_and_kubernetes(
    documents: dict[str, Any], tmp_path: Path
) -> None:
    install("--no-deps", "--target", str(tmp_path), "kserve==0.21.*", "kubernetes==37.*")
    models = read_models(tmp_path / "kserve" / "models", tmp_path / "kubernetes/client/models")
    for kind, name in KINDS.items():
        check(documents[kind], name, models, kind)
    documents["InferenceService"]["spec"]["predictor"]["scaleMetrik"] = "concurrency"
    with pytest.raises(AssertionError, match="InferenceService.spec.predictor has no scaleMetrik"):
        check(documents["InferenceService"], KINDS["InferenceService"], models, "InferenceService")


def read_models(*folders: Path) -> dict[str, dict[str, str]]:
    """Return the type of each field of each class, read without an import of the packages."""
    found = {}
    for folder in folders:
        for file in folder.glob("*.py"):
            for node in ast.parse(file.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef):
                    found[node.name] = fields_of(node)
    assert set(KINDS.values()) <= found.keys()
    return found


def fields_of(node: ast.ClassDef) -> dict[str, str]:
    tables: dict[str, dict[str, str]] = {}
    for one in node.body:
        if isinstance(one, ast.Assign | ast.AnnAssign) and isinstance(one.value, ast.Dict):
            target = one.target if isinstance(one, ast.AnnAssign) else one.targets[0]
            tables[ast.unparse(target)] = ast.literal_eval(one.value)
    names = tables.get("attribute_map", {})
    return {names[key]: kind for key, kind in tables.get("openapi_types", {}).items()}


def check(value: Any, kind: str, models: dict[str, dict[str, str]], place: str) -> None:
    """Assert that a value has the type that a class of Kubernetes' clients declares."""
    if many := re.fullmatch(r"[Ll]ist\[(.+)\]", kind):
        assert isinstance(value, list), place
        for one in value:
            check(one, many[1], models, place)
    elif table := re.fullmatch(r"(?:dict\(|Dict\[)str, (.+)[)\]]", kind):
        assert isinstance(value, dict), place
        for name, one in value.items():
            check(one, table[1], models, f"{place}.{name}")
    elif kind in SCALARS:
        assert isinstance(value, SCALARS[kind]), f"{place} is no {kind}: {value!r}"
    elif kind in ("object", "ResourceQuantity"):
        assert isinstance(value, (str, int)), place
    else:
        assert isinstance(value, dict), place
        for name, one in value.items():
            assert name in models[kind], f"{place} has no {name}"
            check(one, models[kind][name], models, f"{place}.{name}")
