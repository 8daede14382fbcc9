"""The Helm chart, rendered by Helm's own code: valid by Kubernetes's schemas, and of one mind with the mesh."""

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from mesh.settings import load
from mesh.site import CONSOLE, INTAKE, MODEL, PROCESSES, TRACER
from tests.ops.prometheus import run

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "workmesh"
INTERPRETER = ROOT / ".tools" / "helm" / "bin" / "python"
KEY = "U" + "A" * 55
LEAST: dict[str, Any] = {"trustRoot": KEY}
PEER = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
ALL: dict[str, Any] = LEAST | {
    "scaling": {"enabled": True, "prometheus": "http://prometheus.monitoring:9090"},
    "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "roles": {
        "model": {"enabled": True, "envFrom": [{"secretRef": {"name": "provider"}}]},
        "intake": {"enabled": True},
        "tracer": {"enabled": True, "env": {"WORKMESH_TRACES__ENDPOINT": "http://collector:4318"}},
    },
    "networkPolicy": {
        "systems": [{"to": [{"ipBlock": {"cidr": "10.1.0.0/16"}}]}],
        "memory": [{"to": PEER}],
        "traces": [{"to": PEER}],
        **dict.fromkeys(("metrics", "console", "intake"), PEER),
    },
}
OWN: dict[str, Any] = LEAST | {
    "nats": {"enabled": False},
    "bus": {"url": "tls://a:4222,tls://b:4222,tls://c:4222"},
    "networkPolicy": {"bus": PEER},
    "make": {"enabled": False},
}
WRONG: tuple[dict[str, Any], ...] = (
    {},
    LEAST | {"roles": {"auditor": {"replicas": 2}}},
    LEAST | {"roles": {"executer": {"replicas": 2}}},
    LEAST | {"nats": {"enabled": False}},
    LEAST | {"bus": {"url": "nats://a:4222"}},
    LEAST | {"env": {"LD_PRELOAD": "x"}},
    LEAST | {"scaling": {"enabled": True}},
)
Manifest = dict[str, Any]


def render(*values: Mapping[str, Any], chart: Path = CHART) -> list[dict[str, Any]]:
    """What comes of the chart with each of these values."""
    given = json.dumps({"values": values, "kubernetes": "1.31"})
    done = subprocess.run(
        [INTERPRETER, Path(__file__).with_name("rendering.py"), chart], input=given, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def sites() -> dict[str, dict[str, Any]]:
    """The chart with the least values, with everything, and on servers of one's own."""
    return dict(zip(("least", "all", "own"), render(LEAST, ALL, OWN), strict=True))


def pods(site: Mapping[str, Any]) -> Iterator[tuple[str, Manifest]]:
    """Every pod's specification, by the name of what it is for."""
    for manifest in site["manifests"]:
        if "template" in manifest.get("spec", {}):
            labels = manifest["spec"]["template"]["metadata"]["labels"]
            yield labels["app.kubernetes.io/component"], manifest["spec"]["template"]["spec"]


def kind(site: Mapping[str, Any], name: str) -> dict[str, Manifest]:
    """The manifests of a kind, by name."""
    return {each["metadata"]["name"]: each for each in site["manifests"] if each["kind"] == name}


def test_helm_and_kubernetes_find_nothing_wrong(sites: dict[str, dict[str, Any]]) -> None:
    for name, site in sites.items():
        assert (site["lint"], site["wrong"]) == ([], []), name
        names = [(each["kind"], each["metadata"]["name"]) for each in site["manifests"]]
        assert len(set(names)) == len(names)


def test_a_misspelt_field_would_be_found(tmp_path: Path) -> None:
    shutil.copytree(CHART, tmp_path / "workmesh")
    path = tmp_path / "workmesh" / "templates" / "roles.yaml"
    path.write_text(path.read_text("utf-8").replace("readinessProbe:", "readynessProbe:"), encoding="utf-8")
    (site,) = render(LEAST, chart=tmp_path / "workmesh")
    assert any("readynessProbe" in each for each in site["wrong"])


def test_wrong_values_are_refused() -> None:
    assert [site.get("refused", "") == "" for site in render(*WRONG)] == [False] * len(WRONG)


def test_every_role_has_pods_a_budget_and_its_own_key(sites: dict[str, dict[str, Any]]) -> None:
    found, roles = dict(pods(sites["all"])), {*PROCESSES, CONSOLE, TRACER}
    assert set(found) == {*roles, "nats", "make"}
    assert set(dict(pods(sites["least"]))) == set(found) - {MODEL, INTAKE, TRACER}
    assert set(dict(pods(sites["own"]))) == roles - {MODEL, INTAKE, TRACER}
    assert set(kind(sites["all"], "PodDisruptionBudget")) == {f"site-{name}" for name in (*roles, "nats")}
    for role in roles:
        secrets = {each["secret"]["secretName"] for each in found[role]["volumes"] if "secret" in each}
        assert secrets == {f"workmesh-key-{role}", "workmesh-bus-tls"}
        (process,) = found[role]["containers"]
        assert process["args"] == ["run", role]
        asked = {name: process[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")}
        assert asked == {"startup": "/health", "liveness": "/health", "readiness": "/ready"}


def test_every_container_has_few_rights_and_limits(sites: dict[str, dict[str, Any]]) -> None:
    for site in sites.values():
        for name, pod in pods(site):
            about = pod["securityContext"]
            assert about["runAsNonRoot"] and about["seccompProfile"] == {"type": "RuntimeDefault"}, name
            assert pod["automountServiceAccountToken"] is False and pod["enableServiceLinks"] is False
            for container in (*pod["containers"], *pod.get("initContainers", ())):
                assert container["securityContext"] == {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                }
                assert "memory" in container["resources"]["limits"]


def test_the_mesh_understands_the_settings_of_every_pod(sites: dict[str, dict[str, Any]]) -> None:
    for site in sites.values():
        for name, pod in pods(site):
            env = {each["name"]: each.get("value", "x") for each in pod["containers"][0].get("env", ())}
            if name == "nats":
                continue
            settings = load(None, env)
            assert settings.trust_root == KEY and settings.bus.replicas == 3
            assert len(settings.bus.url.split(",")) == 3 and settings.bus.tls is not None
            if name != "make":
                assert settings.identity_path(name) == Path("/keys") / f"{name}.nk"


def test_nothing_passes_that_is_not_named(sites: dict[str, dict[str, Any]]) -> None:
    policies = kind(sites["least"], "NetworkPolicy")
    assert set(policies) == {"site-site", "site-nats"}
    whole = policies["site-site"]["spec"]
    assert whole["policyTypes"] == ["Ingress", "Egress"] and "ingress" not in whole
    assert set(whole["podSelector"]["matchLabels"]) == {"app.kubernetes.io/name", "app.kubernetes.io/instance"}
    assert [rule["ports"][0]["port"] for rule in whole["egress"]] == [53, 4222]
    every = kind(sites["all"], "NetworkPolicy")
    assert every["site-systems"]["spec"]["podSelector"]["matchLabels"]["workmesh/reaches"] == "true"
    reaching = {
        each["metadata"]["name"].removeprefix("site-")
        for each in sites["all"]["manifests"]
        if each.get("spec", {}).get("template", {}).get("metadata", {}).get("labels", {}).get("workmesh/reaches")
        == "true"
    }
    assert reaching == {"planner", "policy", "executor", "model", "intake"}


def test_stages_grow_with_their_queues(sites: dict[str, dict[str, Any]]) -> None:
    scaled = kind(sites["all"], "ScaledObject")
    assert set(scaled) == {f"site-{role}" for role in ("perception", "planner", "policy", "executor")}
    workloads = kind(sites["all"], "Deployment") | kind(sites["all"], "StatefulSet")
    for name, each in scaled.items():
        assert workloads[name]["kind"] == each["spec"]["scaleTargetRef"]["kind"]
        assert "replicas" not in workloads[name]["spec"], "an upgrade would undo what KEDA has chosen"
        (trigger,) = each["spec"]["triggers"]
        assert trigger["metadata"]["query"] == f'max(workmesh_queue_depth{{stage="{name.removeprefix("site-")}"}})'


def test_prometheus_takes_the_configuration_of_compose(tmp_path: Path) -> None:
    for path in (ROOT / "deploy" / "compose" / "prometheus.yml", ROOT / "deploy" / "prometheus" / "rules.yml"):
        shutil.copy(path, tmp_path)
    run(["promtool", "check", "config", str(tmp_path / "prometheus.yml")])
