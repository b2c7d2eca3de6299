"""The operator's resources: against its CRDs made strict, and what its own functions make of them.

The CRDs drop fields that they do not know without a word, so a typing error would go unnoticed.
"""

import copy
from importlib import resources

import jsonschema
import pytest
import yaml
from dask_kubernetes.operator.controller import controller

from tests.helpers.manifests import OPERATOR, VERSIONS, _sections, build, check, one, process

CRDS = resources.files("dask_kubernetes") / "operator/deployment/helm/dask-kubernetes-operator/crds"


def made_strict(schema):
    """A CRD's schema under which unknown fields are errors."""
    if not isinstance(schema, dict):
        return schema
    strict = dict(schema)
    if isinstance(schema.get("properties"), dict):
        strict["properties"] = {
            name: made_strict(inner) for name, inner in schema["properties"].items()
        }
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            strict["additionalProperties"] = False
    elif isinstance(schema.get("additionalProperties"), dict):
        strict["additionalProperties"] = made_strict(schema["additionalProperties"])
    if "items" in schema:
        strict["items"] = made_strict(schema["items"])
    return strict


@pytest.fixture(scope="module")
def schemas():
    found = {}
    for path in CRDS.iterdir():
        for crd in yaml.safe_load_all(path.read_text()):
            version = crd["spec"]["versions"][0]
            schema = made_strict(version["schema"]["openAPIV3Schema"])
            schema["properties"] |= {"apiVersion": {}, "kind": {}, "metadata": {}}
            name = f"{crd['spec']['group']}/{version['name']}"
            found[name, crd["spec"]["names"]["kind"]] = jsonschema.Draft202012Validator(schema)
    return found


def of_the_operator(name: str) -> list[dict]:
    return [d for d in build(f"operator/{name}") if d["apiVersion"] == "kubernetes.dask.org/v1"]


@pytest.mark.parametrize("name", OPERATOR)
def test_the_resources_are_valid_under_the_operators_own_definitions(schemas, name):
    found = of_the_operator(name)
    kinds = {document["kind"] for document in found}
    assert kinds == ({"DaskJob"} if name == "job" else {"DaskCluster", "DaskAutoscaler"})
    for document in found:
        schemas[document["apiVersion"], document["kind"]].validate(document)


@pytest.mark.parametrize("name", OPERATOR)
def test_a_misspelt_field_fails_wherever_it_stands(schemas, name):
    seen = 0
    for document in of_the_operator(name):
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
            seen += 1
    assert seen > 30


def rendered(cluster: dict, name: str) -> list[dict]:
    """The objects that the operator makes of a cluster's specification."""
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
    """Each cluster specification, with the name that its cluster gets."""
    cluster = one(build("operator/cluster"), "DaskCluster", "srch-dist")
    job = one(build("operator/job"), "DaskJob", "srch-dist")
    yield cluster["spec"], cluster["metadata"]["name"]
    yield job["spec"]["cluster"]["spec"], job["metadata"]["name"]


@pytest.mark.parametrize("version", VERSIONS)
def test_what_the_operator_makes_of_them_is_valid(version):
    for spec, name in clusters():
        deployment, service, worker = rendered(spec, name)
        for document in (deployment, service, worker):
            check(document, version)
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        selector = service["spec"]["selector"].items()
        assert selector <= labels.items()
        assert service["metadata"]["name"] == "srch-dist-scheduler"
    job = one(build("operator/job"), "DaskJob", "srch-dist")
    runner = job["spec"]["job"]
    pod = controller.build_job_pod_spec(
        "srch-dist", "srch-dist", "srch-dist", runner["spec"], {}, runner["metadata"]["labels"]
    )
    check(pod, version)


def test_both_ways_run_the_same_scheduler_and_workers():
    (cluster, _), (job, _) = clusters()
    assert cluster == job


def test_the_operators_pods_are_those_of_base():
    base = build("overlays/pvc")
    for name in ("scheduler", "worker", "train"):
        ours = process(base, name, "pod-1")
        for way in OPERATOR:
            documents = build(f"operator/{way}")
            theirs = process(documents, name, "pod-1") if name != "worker" else _worker(documents)
            assert theirs.args == ours.args
            assert theirs.env == ours.env
            assert theirs.mounts == ours.mounts
            for field in ("resources", "securityContext", "lifecycle", "livenessProbe", "ports"):
                assert theirs.container.get(field) == ours.container.get(field)


def _worker(documents):
    """A worker with the variables that the operator puts in."""
    spec = next(d for d in documents if d["kind"].startswith("Dask") and "Auto" not in d["kind"])[
        "spec"
    ]
    worker = spec["worker"] if "worker" in spec else spec["cluster"]["spec"]["worker"]
    made = controller.build_worker_deployment_spec(
        "srch-dist-default", "srch-dist", "srch-dist", "0a1b2c", worker["spec"], {}, {}
    )
    made["spec"]["template"]["spec"]["containers"][0]["env"].remove(
        {"name": "DASK_WORKER_NAME", "value": made["metadata"]["name"]}
    )
    made["spec"]["template"]["spec"]["containers"][0]["env"].append(
        {"name": "DASK_WORKER_NAME", "value": "pod-1"}
    )
    configs = [d for d in documents if d["kind"] == "ConfigMap"]
    return process([*configs, made], "worker", "pod-1")


def test_the_address_that_the_operator_puts_in_does_not_replace_ours():
    for spec, name in clusters():
        _, _, worker = rendered(spec, name)
        env = worker["spec"]["template"]["spec"]["containers"][0]["env"]
        (address,) = [item for item in env if item["name"] == "DASK_SCHEDULER_ADDRESS"]
        assert address["valueFrom"]["configMapKeyRef"]["name"].startswith("srch-dist-cluster")


def test_no_pod_of_a_deployment_has_a_restart_policy_that_is_not_valid_there():
    for spec, _ in clusters():
        for role in ("scheduler", "worker"):
            assert spec[role]["spec"].get("restartPolicy", "Always") == "Always"
