"""The operator's resources are valid by its strict CRDs, and the objects it builds are valid, too.

The CRDs drop unknown fields silently, so a typing error would have no effect otherwise.
"""

import copy
from importlib import resources

import jsonschema
import pytest
import yaml
from dask_kubernetes.operator.controller import controller

from tests.helpers.manifests import OPERATOR, VERSIONS, _sections, build, check, one, process

CRDS = resources.files("dask_kubernetes") / "operator/deployment/helm/dask-kubernetes-operator/crds"


def strict_schema(schema):
    """The schema of a CRD, with unknown fields as errors."""
    if not isinstance(schema, dict):
        return schema
    strict = dict(schema)
    if isinstance(schema.get("properties"), dict):
        strict["properties"] = {
            name: strict_schema(inner) for name, inner in schema["properties"].items()
        }
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            strict["additionalProperties"] = False
    elif isinstance(schema.get("additionalProperties"), dict):
        strict["additionalProperties"] = strict_schema(schema["additionalProperties"])
    if "items" in schema:
        strict["items"] = strict_schema(schema["items"])
    return strict


@pytest.fixture(scope="module")
def schemas():
    validators = {}
    for path in CRDS.iterdir():
        for crd in yaml.safe_load_all(path.read_text()):
            version = crd["spec"]["versions"][0]
            schema = strict_schema(version["schema"]["openAPIV3Schema"])
            schema["properties"] |= {"apiVersion": {}, "kind": {}, "metadata": {}}
            name = f"{crd['spec']['group']}/{version['name']}"
            kind = crd["spec"]["names"]["kind"]
            validators[name, kind] = jsonschema.Draft202012Validator(schema)
    return validators


def operator_documents(name: str) -> list[dict]:
    return [d for d in build(f"operator/{name}") if d["apiVersion"] == "kubernetes.dask.org/v1"]


@pytest.mark.parametrize("name", OPERATOR)
def test_the_resources_are_valid_by_the_operators_definitions(schemas, name):
    documents = operator_documents(name)
    kinds = {document["kind"] for document in documents}
    assert kinds == ({"DaskJob"} if name.startswith("job") else {"DaskCluster", "DaskAutoscaler"})
    for document in documents:
        schemas[document["apiVersion"], document["kind"]].validate(document)


@pytest.mark.parametrize("name", OPERATOR)
def test_a_misspelt_field_fails_anywhere(schemas, name):
    checked = 0
    for document in operator_documents(name):
        schema = schemas[document["apiVersion"], document["kind"]]
        for path, _ in _sections(document["spec"]):
            if path[-1:] in (("metadata",), ("selector",)):
                continue
            broken = copy.deepcopy(document)
            section = broken["spec"]
            for step in path:
                section = section[step]
            section["misspelt"] = "x"
            errors = list(schema.iter_errors(broken))
            assert errors, path
            assert "misspelt" in str(errors[0].message)
            checked += 1
    assert checked > 30


def rendered(cluster: dict, name: str) -> list[dict]:
    """The objects that the operator builds from the specification of a cluster."""
    scheduler, worker = cluster["scheduler"], cluster["worker"]
    return [
        controller.build_scheduler_deployment_spec(
            name, scheduler["spec"], {}, scheduler["metadata"]["labels"]
        ),
        controller.build_scheduler_service_spec(name, scheduler["service"], {}, {}),
        controller.build_worker_deployment_spec(
            f"{name}-default", "srch-dist", name, "0a1b2c", worker["spec"], {},
            worker["metadata"]["labels"],
        ),
    ]  # fmt: skip


def clusters():
    """Both cluster specifications, each with the name of its cluster."""
    cluster = one(build("operator/cluster-without-tls"), "DaskCluster", "srch-dist")
    job = one(build("operator/job-without-tls"), "DaskJob", "srch-dist")
    yield cluster["spec"], cluster["metadata"]["name"]
    yield job["spec"]["cluster"]["spec"], job["metadata"]["name"]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_objects_that_the_operator_builds_are_valid(version):
    for spec, name in clusters():
        deployment, service, worker = rendered(spec, name)
        for document in (deployment, service, worker):
            check(document, version)
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        selector = service["spec"]["selector"].items()
        assert selector <= labels.items()
        assert service["metadata"]["name"] == "srch-dist-scheduler"
    job = one(build("operator/job-without-tls"), "DaskJob", "srch-dist")
    runner = job["spec"]["job"]
    pod = controller.build_job_pod_spec(
        "srch-dist", "srch-dist", "srch-dist", runner["spec"], {}, runner["metadata"]["labels"]
    )
    check(pod, version)


def test_cluster_and_job_have_the_same_scheduler_and_workers():
    (cluster, _), (job, _) = clusters()
    assert cluster == job


def test_the_operators_pods_equal_those_of_base():
    base = build("overlays/pvc-without-tls")
    for name in ("scheduler", "worker", "train"):
        expected = process(base, name, "pod-1")
        for kind in OPERATOR:
            documents = build(f"operator/{kind}")
            actual = process(documents, name, "pod-1") if name != "worker" else _worker(documents)
            assert actual.args == expected.args
            assert actual.env == expected.env
            assert actual.mounts == expected.mounts
            for field in ("resources", "securityContext", "lifecycle", "livenessProbe", "ports"):
                assert actual.container.get(field) == expected.container.get(field)


def _worker(documents):
    """The worker process, with the variables that the operator adds."""
    spec = next(d for d in documents if d["kind"].startswith("Dask") and "Auto" not in d["kind"])[
        "spec"
    ]
    worker = spec["worker"] if "worker" in spec else spec["cluster"]["spec"]["worker"]
    deployment = controller.build_worker_deployment_spec(
        "srch-dist-default", "srch-dist", "srch-dist", "0a1b2c", worker["spec"], {}, {}
    )
    env = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    env.remove({"name": "DASK_WORKER_NAME", "value": deployment["metadata"]["name"]})
    env.append({"name": "DASK_WORKER_NAME", "value": "pod-1"})
    configs = [d for d in documents if d["kind"] == "ConfigMap"]
    return process([*configs, deployment], "worker", "pod-1")


def test_the_operator_does_not_replace_the_scheduler_address():
    for spec, name in clusters():
        _, _, worker = rendered(spec, name)
        env = worker["spec"]["template"]["spec"]["containers"][0]["env"]
        (address,) = [item for item in env if item["name"] == "DASK_SCHEDULER_ADDRESS"]
        assert address["valueFrom"]["configMapKeyRef"]["name"].startswith("srch-dist-cluster")


def test_pods_of_deployments_have_a_valid_restart_policy():
    for spec, _ in clusters():
        for role in ("scheduler", "worker"):
            assert spec[role]["spec"].get("restartPolicy", "Always") == "Always"
