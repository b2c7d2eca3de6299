"""Network policies deny everything but what a run needs, in every overlay."""

import pytest

from tests.helpers.manifests import OPERATOR, OVERLAYS, build, containers, pod_specs

pytestmark = pytest.mark.slow

BUILDS = [*(f"overlays/{name}" for name in OVERLAYS), *(f"operator/{name}" for name in OPERATOR)]
ROLES = ("scheduler", "worker", "train")
STRANGER = {"app.kubernetes.io/name": "other", "app.kubernetes.io/component": "worker"}


def _matches(selector: dict, labels: dict) -> bool:
    exact = selector.get("matchLabels", {})
    expressions = selector.get("matchExpressions", [])
    return all(labels.get(key) == value for key, value in exact.items()) and all(
        item["operator"] == "In" and labels.get(item["key"]) in item["values"]
        for item in expressions
    )


def _labels(folder: str) -> dict[str, dict]:
    """Labels of the pods by role: scheduler, worker, train."""
    labels = {}
    for document in build(folder):
        for owner in _owners(document):
            pod = owner.get("template", owner)
            names = {container["name"] for _, container in containers(pod)}
            if name := next(iter(set(ROLES) & names), None):
                labels[name] = pod["metadata"]["labels"]
            else:  # other clients of the cluster have the policies of train
                assert names <= {"encode-image", "encode-text", "evaluate"}
                assert pod["metadata"]["labels"]["app.kubernetes.io/component"] == "train"
    return labels


def _owners(value):
    """Mappings that have the metadata and the specification of a pod."""
    if isinstance(value, dict):
        if "metadata" in value and any(True for _ in pod_specs({"spec": value.get("spec")})):
            inner = value["spec"]
            if isinstance(inner, dict) and "containers" in inner:
                yield value
                return
        for inner in value.values():
            yield from _owners(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _owners(inner)


def policies(folder: str) -> list[dict]:
    return [d["spec"] for d in build(folder) if d["kind"] == "NetworkPolicy"]


def _ports(folder: str, direction: str, of: dict, peer: dict) -> set[int]:
    """Ports that the policies of pods ``of`` open to or from pods ``peer`` of the namespace."""
    sides = {"ingress": "from", "egress": "to"}
    return {
        port["port"]
        for policy in policies(folder)
        if direction.capitalize() in policy["policyTypes"] and _matches(policy["podSelector"], of)
        for rule in policy.get(direction, [])
        for other in rule.get(sides[direction], [{"podSelector": {}}])
        if "podSelector" in other and _matches(other["podSelector"], peer)
        for port in rule["ports"]
    }


def _storage_roles(folder: str) -> tuple[str, ...]:
    """Roles that reach the object store."""
    if "object-store" in folder:
        return ("worker", "train")
    return ("train",) if "s3" in folder or "production" in folder else ()


@pytest.mark.parametrize("folder", BUILDS)
def test_the_namespace_denies_everything_by_default(folder):
    default = [policy for policy in policies(folder) if policy["podSelector"] == {}]
    assert default == [{"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}]
    for direction in ("ingress", "egress"):
        for role in ROLES:
            assert _ports(folder, direction, STRANGER, _labels(folder)[role]) == set()


@pytest.mark.parametrize("folder", BUILDS)
def test_both_sides_of_a_connection_permit_the_same_ports(folder):
    """The dashboard is open to no pod."""
    labels = _labels(folder)
    assert set(labels) == set(ROLES)
    expected = {("worker", "scheduler"): {8786}, ("train", "scheduler"): {8786}}
    expected |= {(role, "worker"): {8788, 8789} for role in ROLES}
    storage = {role: {443} for role in _storage_roles(folder)}
    for source in ROLES:
        for target in ROLES:
            here, there = labels[source], labels[target]
            ports = expected.get((source, target), set())
            assert _ports(folder, "ingress", there, here) == ports, (source, target)
            out = _ports(folder, "egress", here, there)
            assert out == ports | storage.get(source, set()), (source, target)
        assert _ports(folder, "ingress", labels[source], STRANGER) == set()


@pytest.mark.parametrize("folder", BUILDS)
def test_outside_of_the_namespace_there_are_names_and_the_object_store_alone(folder):
    outside = []
    for policy in policies(folder):
        for rule in policy.get("egress", []):
            peers = rule.get("to", [])
            if not peers or any("podSelector" not in peer for peer in peers):
                outside.append((policy["podSelector"], rule))
    names = [rule for _, rule in outside if {port["port"] for port in rule["ports"]} == {53}]
    (name_service,) = names
    (peer,) = name_service["to"]
    labels = peer["namespaceSelector"]["matchLabels"]
    assert labels == {"kubernetes.io/metadata.name": "kube-system"}
    others = [(pods, rule) for pods, rule in outside if rule not in names]
    assert len(others) == bool(_storage_roles(folder))
    for _, rule in others:
        assert [port["port"] for port in rule["ports"]] == [443]
