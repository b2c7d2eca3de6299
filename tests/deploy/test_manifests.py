"""Every overlay builds, is valid for the oldest and newest Kubernetes, and follows the rules."""

import copy
import functools
import re
import shutil

import kubernetes_validate
import pytest
import yaml

from srch_dist.cli.command import BAD_INPUT, NO_STORAGE, TRY_AGAIN
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
    one,
    pod_specs,
)

pytestmark = pytest.mark.slow

BUILDS = [*(f"overlays/{name}" for name in OVERLAYS), *(f"operator/{name}" for name in OPERATOR)]
OPERATOR_API = "kubernetes.dask.org/v1"
# A tag can be moved to another image.
PINNED = re.compile(r"registry\.example/srch-dist@sha256:[0-9a-f]{64}")


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
            for mode in ("enforce", "audit", "warn"):
                assert labels[f"pod-security.kubernetes.io/{mode}"] == "restricted"
        elif document["kind"] == "PriorityClass":  # belongs to the cluster
            assert document["metadata"]["name"].startswith("srch-dist-")
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
        assert PINNED.fullmatch(container["image"]), container["image"]
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


@pytest.mark.parametrize("folder", BUILDS)
def test_no_secret_is_a_variable(folder):
    for document in build(folder):
        for _, container in containers(document):
            assert not [source for source in container.get("envFrom", []) if "secretRef" in source]
            for item in container.get("env", []):
                assert "secretKeyRef" not in item.get("valueFrom", {})


@pytest.mark.parametrize("folder", BUILDS)
def test_the_name_says_that_connections_are_not_encrypted(folder):
    address = one(build(folder), "ConfigMap", "srch-dist-cluster")["data"]["DASK_SCHEDULER_ADDRESS"]
    assert address.startswith("tcp://") == folder.endswith("-without-tls")


def test_one_image_is_in_all_manifests_and_a_tag_alone_is_noticed(tmp_path):
    """Also in the fields of the operator, and in the containers that `s3` adds."""
    shutil.copytree(KUBERNETES, tmp_path / "kubernetes")
    path = tmp_path / "kubernetes" / "components" / "image" / "kustomization.yaml"
    text, count = re.subn(r"digest: sha256:0{64}\n", "newTag: 0.1.0\n", path.read_text())
    assert count == 1
    path.write_text(text)
    for folder in BUILDS:
        done = kustomize(tmp_path / "kubernetes" / folder)
        assert done.returncode == 0, done.stderr
        images = [
            container["image"]
            for document in yaml.safe_load_all(done.stdout)
            for _, container in containers(document)
        ]
        assert set(images) == {"registry.example/srch-dist:0.1.0"}, folder
        assert not PINNED.fullmatch(images[0])


WITH_JOB = [f for f in BUILDS if f != "operator/job-without-tls"]  # there, a pod of the operator


def _action(job: dict, container: str, code: int, disrupted: bool = False) -> str:
    """What Kubernetes does after a failed pod: the first rule that matches decides."""
    for rule in job["spec"]["podFailurePolicy"]["rules"]:
        for condition in rule.get("onPodConditions", []):
            if disrupted and condition == {"type": "DisruptionTarget", "status": "True"}:
                return rule["action"]
        codes = rule.get("onExitCodes")
        if codes and codes["containerName"] == container:
            assert codes["operator"] == "In"
            if code in codes["values"]:
                return rule["action"]
    return "Count"


@pytest.mark.parametrize("folder", WITH_JOB)
def test_the_job_tries_again_unless_the_input_is_wrong(folder):
    jobs = [document for document in build(folder) if document["kind"] == "Job"]
    assert len(jobs) == (4 if "object-store" in folder else 1)
    for job in jobs:
        name = job["metadata"]["name"].removeprefix("srch-dist-")
        assert job["spec"]["podReplacementPolicy"] == "Failed"
        assert job["spec"]["backoffLimit"] >= 3
        assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"  # for the policy
        assert _action(job, name, BAD_INPUT) == "FailJob"
        for code in (NO_STORAGE, TRY_AGAIN, 137):
            assert _action(job, name, code) == "Count"
            # An eviction is no failure, whatever the code.
            assert _action(job, name, code, disrupted=True) == "Ignore"
        assert _action(job, "fetch", BAD_INPUT) == "Count"  # s5cmd has exit codes of its own
        names = [container["name"] for _, container in containers(job)]
        for rule in job["spec"]["podFailurePolicy"]["rules"]:
            if "onExitCodes" in rule:
                assert rule["onExitCodes"]["containerName"] in names


def test_data_are_downloaded_before_training_and_codes_uploaded_after_it():
    (job,) = [document for document in build("overlays/production") if document["kind"] == "Job"]
    pod = job["spec"]["template"]["spec"]
    assert [container["name"] for container in pod["initContainers"]] == ["fetch", "train"]
    assert [container["name"] for container in pod["containers"]] == ["upload"]


def test_autoscaled_workers_have_no_fixed_number():
    for folder in ("overlays/autoscaling-without-tls", "overlays/production"):
        documents = build(folder)
        (scaler,) = [d for d in documents if d["kind"] == "HorizontalPodAutoscaler"]
        target = scaler["spec"]["scaleTargetRef"]
        (workers,) = [
            document
            for document in documents
            if document["kind"] == target["kind"] and document["metadata"]["name"] == target["name"]
        ]
        assert "replicas" not in workers["spec"]
