"""Every overlay builds, is valid for the oldest and newest Kubernetes, and follows the rules."""

import copy
import functools

import kubernetes_validate
import pytest
import yaml

from tests.helpers.manifests import (
    KUBERNETES,
    OPERATOR,
    OVERLAYS,
    VERSIONS,
    _sections,
    build,
    check,
    containers,
    kustomize,
    pod_specs,
)

pytestmark = pytest.mark.slow

BUILDS = [*(f"overlays/{name}" for name in OVERLAYS), *(f"operator/{name}" for name in OPERATOR)]
OPERATOR_API = "kubernetes.dask.org/v1"


@pytest.fixture(autouse=True, scope="session")
def _schemas_are_read_once():
    with pytest.MonkeyPatch.context() as patch:
        read = functools.cache(kubernetes_validate.utils.schema_contents)
        patch.setattr(kubernetes_validate.utils, "schema_contents", read)
        yield


def plain(folder: str) -> list[dict]:
    """The documents that Kubernetes knows without the operator."""
    return [document for document in build(folder) if document["apiVersion"] != OPERATOR_API]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("folder", BUILDS)
def test_every_document_is_valid(folder, version):
    documents = plain(folder)
    assert len(documents) >= 8
    for document in documents:
        check(document, version)


def test_a_misspelt_field_fails_anywhere():
    checked = set()
    for document in plain("overlays/production"):
        for path, _ in _sections(document):
            if (document["kind"], *path) == ("Service", "spec", "selector"):
                continue  # labels have arbitrary names
            broken = copy.deepcopy(document)
            section = broken
            for step in path:
                section = section[step]
            section["misspelt"] = "x"
            with pytest.raises(kubernetes_validate.ValidationError, match="misspelt"):
                check(broken, VERSIONS[0])
            checked.add((document["kind"], *(step for step in path if isinstance(step, str))))
    assert len(checked) > 100


def test_a_kind_without_a_schema_fails():
    with pytest.raises(kubernetes_validate.utils.SchemaNotFoundError):
        check({"apiVersion": "apps/v1", "kind": "Deplyoment", "metadata": {"name": "x"}}, "1.31")


def test_an_overlay_with_an_unknown_field_does_not_build(tmp_path):
    text = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [x.yaml]\n"
    (tmp_path / "x.yaml").write_text((KUBERNETES / "job" / "job.yaml").read_text())
    (tmp_path / "kustomization.yaml").write_text(text)
    assert kustomize(tmp_path).returncode == 0
    (tmp_path / "kustomization.yaml").write_text(text + "patchs: []\n")
    assert kustomize(tmp_path).returncode != 0


@pytest.mark.parametrize("folder", BUILDS)
def test_everything_is_in_one_namespace_with_the_restricted_pod_security_standard(folder):
    for document in build(folder):
        if document["kind"] == "Namespace":
            labels = document["metadata"]["labels"]
            assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
        else:
            assert document["metadata"]["namespace"] == "srch-dist", document["metadata"]


@pytest.mark.parametrize("folder", BUILDS)
def test_containers_have_no_privileges_and_requests_equal_limits(folder):
    pairs = [pair for document in build(folder) for pair in containers(document)]
    assert len(pairs) >= 3
    for pod, container in pairs:
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] >= 10000
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert set(container["resources"]["limits"]) == {"cpu", "memory", "ephemeral-storage"}
        assert container["image"] == "registry.example/srch-dist:0.1.0"
        assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}


@pytest.mark.parametrize("folder", BUILDS)
def test_containers_mount_every_volume_and_no_other(folder):
    for document in build(folder):
        for pod in pod_specs(document):
            mounted = {
                mount["name"]
                for container in [*pod.get("initContainers", []), *pod["containers"]]
                for mount in container["volumeMounts"]
            }
            assert mounted == {volume["name"] for volume in pod["volumes"]}


@pytest.mark.parametrize("folder", BUILDS)
def test_referenced_objects_exist(folder):
    documents = build(folder)
    names = {(document["kind"], document["metadata"]["name"]) for document in documents}
    text = yaml.safe_dump([d for d in documents if d["kind"] not in ("ConfigMap", "Namespace")])
    for pod, container in [pair for document in documents for pair in containers(document)]:
        assert ("ServiceAccount", pod["serviceAccountName"]) in names
        for source in container.get("envFrom", []):
            if "configMapRef" in source:
                assert ("ConfigMap", source["configMapRef"]["name"]) in names
        for volume in pod["volumes"]:
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in names
            if "persistentVolumeClaim" in volume:
                claim = volume["persistentVolumeClaim"]["claimName"]
                assert ("PersistentVolumeClaim", claim) in names
    assert "srch-dist-run" in text


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
            names = [container["name"] for _, container in containers(pod)]
            (name,) = {"scheduler", "worker", "train"} & set(names)
            labels[name] = pod["metadata"]["labels"]
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


@pytest.mark.parametrize("folder", BUILDS)
def test_only_workers_and_job_reach_the_scheduler_and_no_pod_its_dashboard(folder):
    labels = _labels(folder)
    assert set(labels) == {"scheduler", "worker", "train"}
    stranger = {"app.kubernetes.io/name": "other", "app.kubernetes.io/component": "worker"}
    documents = build(folder)
    policies = [d["spec"] for d in documents if d["kind"] == "NetworkPolicy"]
    # The default policy selects all pods and denies ingress that no other policy allows.
    default = next(p for p in policies if set(p["policyTypes"]) == {"Ingress", "Egress"})
    assert all(_matches(default["podSelector"], each) for each in labels.values())
    assert "ingress" not in default

    def open_ports(target: dict, source: dict) -> set[int]:
        return {
            port["port"]
            for policy in policies
            if _matches(policy["podSelector"], target)
            for rule in policy.get("ingress", [])
            for peer in rule["from"]
            if "podSelector" in peer and _matches(peer["podSelector"], source)
            for port in rule["ports"]
        }

    for role in ("worker", "train"):
        assert open_ports(labels["scheduler"], labels[role]) == {8786}
    for role in ("scheduler", "worker", "train"):
        assert open_ports(labels["worker"], labels[role]) == {8788, 8789}
        assert open_ports(labels["train"], labels[role]) == set()
        assert open_ports(labels[role], stranger) == set()


def test_scheduler_and_job_avoid_spot_nodes_and_block_drains():
    documents = build("overlays/production")
    for document in documents:
        for pod in pod_specs(document):
            names = {container["name"] for container in pod["containers"]}
            affinity = pod["affinity"]["nodeAffinity"]
            terms = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
            operators = {e["operator"] for term in terms for e in term["matchExpressions"]}
            assert operators == ({"In"} if names == {"worker"} else {"NotIn", "DoesNotExist"})
            assert ("tolerations" in pod) == (names == {"worker"})
    budgets = {
        document["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"]: document["spec"]
        for document in documents
        if document["kind"] == "PodDisruptionBudget"
    }
    assert budgets["scheduler"]["minAvailable"] == budgets["train"]["minAvailable"] == 1
    assert budgets["worker"]["maxUnavailable"] == "25%"


def test_an_evicted_job_is_replaced_and_exit_code_2_is_not_retried():
    (job,) = [document for document in build("overlays/production") if document["kind"] == "Job"]
    assert job["spec"]["podReplacementPolicy"] == "Failed"
    ignored, failed = job["spec"]["podFailurePolicy"]["rules"]
    assert ignored["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert failed["onExitCodes"] == {"containerName": "train", "operator": "In", "values": [2]}
    assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"  # required by the policy


def test_data_are_downloaded_before_training_and_codes_uploaded_after_it():
    (job,) = [document for document in build("overlays/production") if document["kind"] == "Job"]
    pod = job["spec"]["template"]["spec"]
    assert [container["name"] for container in pod["initContainers"]] == ["fetch", "train"]
    assert [container["name"] for container in pod["containers"]] == ["upload"]


def test_autoscaled_workers_have_no_fixed_number():
    for folder in ("overlays/autoscaling", "overlays/production"):
        documents = build(folder)
        (scaler,) = [d for d in documents if d["kind"] == "HorizontalPodAutoscaler"]
        target = scaler["spec"]["scaleTargetRef"]
        (workers,) = [
            document
            for document in documents
            if document["kind"] == target["kind"] and document["metadata"]["name"] == target["name"]
        ]
        assert "replicas" not in workers["spec"]
