"""The example for cert-manager: against models made of its own definitions, and the manifests.

The models (PyPI cloudcoil-models-cert-manager, of cert-manager 1.17) refuse wrong values and drop
fields that they do not know; so a document is right where it comes back whole.
"""

import copy

import pytest
import yaml
from cloudcoil.models.cert_manager import v1
from pydantic import ValidationError

from tests.helpers.manifests import KUBERNETES, _sections, build, one, pod_specs

EXAMPLE = KUBERNETES / "components" / "tls" / "cert-manager.yaml"


def documents() -> list[dict]:
    return list(yaml.safe_load_all(EXAMPLE.read_text()))


def understood(document: dict) -> dict:
    """What cert-manager would take of a document."""
    model = getattr(v1, document["kind"]).model_validate(document)
    return model.model_dump(by_alias=True, exclude_none=True)


def named(kind: str, name: str) -> dict:
    return one(documents(), kind, name)


@pytest.mark.parametrize("document", documents(), ids=lambda one: one["metadata"]["name"])
def test_every_document_is_understood_whole(document):
    assert document["apiVersion"] == "cert-manager.io/v1"
    assert understood(document) == document


@pytest.mark.parametrize("document", documents(), ids=lambda one: one["metadata"]["name"])
def test_a_misspelt_field_does_not_come_back(document):
    seen = 0
    for path, _ in _sections(document["spec"]):
        broken = copy.deepcopy(document)
        section = broken["spec"]
        for step in path:
            section = section[step]
        section["misspelt"] = "x"
        assert understood(broken) != broken, path
        seen += 1
    assert seen >= 2


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["privateKey", "algorithm"], "EC"),
        (["privateKey", "size"], "small"),
        (["usages"], ["server"]),
        (["dnsNames"], "srch-dist-scheduler"),
        (["secretName"], None),
    ],
)
def test_a_wrong_value_is_refused(path, value):
    broken = named("Certificate", "srch-dist")
    section = broken["spec"]
    for step in path[:-1]:
        section = section[step]
    section[path[-1]] = value
    with pytest.raises(ValidationError):
        understood(broken)


def test_each_certificate_is_issued_by_who_is_there_and_the_authority_by_itself():
    issuers = {d["metadata"]["name"]: d["spec"] for d in documents() if d["kind"] == "Issuer"}
    authority = named("Certificate", "srch-dist-ca")["spec"]
    assert authority["isCA"] is True
    assert issuers[authority["issuerRef"]["name"]] == {"selfSigned": {}}
    own = named("Certificate", "srch-dist")["spec"]
    assert issuers[own["issuerRef"]["name"]] == {"ca": {"secretName": authority["secretName"]}}


def test_the_secret_is_the_one_that_pods_mount_and_the_names_are_those_of_the_scheduler():
    made = build("overlays/tls")
    spec = named("Certificate", "srch-dist")["spec"]
    mounted = [
        volume["secret"]["secretName"]
        for document in made
        for pod in pod_specs(document)
        for volume in pod.get("volumes", [])
        if volume["name"] == "tls"
    ]
    assert mounted == [spec["secretName"]] * 3  # scheduler, workers, job
    service = one(made, "Service", "srch-dist-scheduler")["metadata"]
    name, namespace = service["name"], service["namespace"]
    assert spec["dnsNames"] == [name, f"{name}.{namespace}.svc"]
    assert set(spec["usages"]) == {"server auth", "client auth"}  # workers are both
