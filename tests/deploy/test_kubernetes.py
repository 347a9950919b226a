"""The pair in Kubernetes: who finds whom, who is led where, and what is never done to it."""

from __future__ import annotations

from typing import Any

import pytest

from pymcd.readiness import STATES, State

from .deployed import (
    CLIENTS,
    DEPLOY,
    HTTP,
    PEERS,
    UID,
    documents,
    run,
    settings_of,
    stops_within_s,
    tool,
)

FILE = DEPLOY / "kubernetes" / "pymcd.yaml"
#: As far back as `kubernetes-validate` knows; "": the latest that it knows.
VERSIONS = ("1.27", "")


class Manifests:
    """What the file has, by kind and name."""

    def __init__(self) -> None:
        self.all: dict[tuple[str, str], Any] = {
            (each["kind"], each["metadata"]["name"]): each for each in documents(FILE)
        }
        self.set = self.all["StatefulSet", "pymcd"]
        self.pod = self.set["spec"]["template"]["spec"]
        (self.container,) = self.pod["containers"]
        self.clients = self.all["Service", "pymcd"]["spec"]
        self.peers = self.all["Service", "pymcd-peers"]["spec"]
        self.budget = self.all["PodDisruptionBudget", "pymcd"]["spec"]

    def environment(self, pod: str) -> dict[str, str]:
        return {each["name"]: each.get("value", pod) for each in self.container["env"]}

    def ports(self) -> dict[str, int]:
        return {each["name"]: each["containerPort"] for each in self.container["ports"]}


@pytest.fixture
def manifests() -> Manifests:
    return Manifests()


def test_a_pod_is_one_node_of_a_pair(manifests: Manifests) -> None:
    assert manifests.ports() == {"memcached": CLIENTS, "replication": PEERS, "http": HTTP}
    names = [f"pymcd-{number}" for number in range(manifests.set["spec"]["replicas"])]
    for name in names:
        settings = settings_of(manifests.container["args"], manifests.environment(name))
        assert settings.node_id == name
        service = manifests.set["spec"]["serviceName"]
        assert settings.peers == tuple(f"{each}.{service}:{PEERS}" for each in names)
        assert str(HTTP) in str(settings.http)
        (mount,) = manifests.container["volumeMounts"]
        assert settings.replication_secret_file == mount["mountPath"] + "/secret"


def test_peers_find_a_pod_before_it_is_ready_and_clients_only_then(manifests: Manifests) -> None:
    assert manifests.peers["publishNotReadyAddresses"] is True
    assert manifests.peers["clusterIP"] == "None"
    assert "publishNotReadyAddresses" not in manifests.clients
    assert manifests.clients["ports"][0]["port"] == CLIENTS
    probe = manifests.container["readinessProbe"]
    assert probe["httpGet"] == {"path": "/readyz", "port": "http"}


def test_both_may_start_at_once(manifests: Manifests) -> None:
    assert manifests.set["spec"]["podManagementPolicy"] == "Parallel"
    assert STATES[State.STARTING][0] is False  # else none would be ready before the other


def test_one_goes_at_a_time(manifests: Manifests) -> None:
    assert manifests.budget["maxUnavailable"] == 1
    (apart,) = manifests.pod["affinity"]["podAntiAffinity"].values()
    assert apart[0]["topologyKey"] == "kubernetes.io/hostname"


def test_who_stops_has_the_time_for_it(manifests: Manifests) -> None:
    settings = settings_of(manifests.container["args"])
    assert manifests.pod["terminationGracePeriodSeconds"] > stops_within_s(settings)
    # The probe must have seen it, and the endpoints have changed, while it still serves.
    probe = manifests.container["readinessProbe"]
    assert settings.drain_s > probe["periodSeconds"] * probe["failureThreshold"] + 2


def test_nobody_is_killed_for_what_it_holds(manifests: Manifests) -> None:
    probe = manifests.container["livenessProbe"]
    assert probe["httpGet"] == {"path": "/healthz", "port": "http"}
    assert "startupProbe" not in manifests.container


def test_it_may_do_little(manifests: Manifests) -> None:
    user = manifests.pod["securityContext"]
    assert user["runAsNonRoot"] is True
    assert {user[name] for name in ("runAsUser", "runAsGroup", "fsGroup")} == {UID}


def test_all_are_selected(manifests: Manifests) -> None:
    labels = manifests.set["spec"]["template"]["metadata"]["labels"]
    for selector in (
        manifests.clients["selector"],
        manifests.peers["selector"],
        manifests.budget["selector"]["matchLabels"],
        manifests.set["spec"]["selector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_understands_it(version: str) -> None:
    validate = tool("kubernetes-validate")
    named = ("--kubernetes-version", version) if version else ()
    done = run(validate, "--strict", *named, str(FILE))
    assert done.returncode == 0, done.stdout
