"""The cert-manager example is valid by cert-manager's definitions, and fits the manifests.

The models (PyPI cloudcoil-models-cert-manager, for cert-manager 1.17) refuse wrong values and drop
unknown fields. A document is valid if it survives a round trip unchanged.
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


def round_trip(document: dict) -> dict:
    """The fields of a document that cert-manager knows."""
    model = getattr(v1, document["kind"]).model_validate(document)
    return model.model_dump(by_alias=True, exclude_none=True)


def named(kind: str, name: str) -> dict:
    return one(documents(), kind, name)


@pytest.mark.parametrize("document", documents(), ids=lambda one: one["metadata"]["name"])
def test_every_document_is_valid(document):
    assert document["apiVersion"] == "cert-manager.io/v1"
    assert round_trip(document) == document


@pytest.mark.parametrize("document", documents(), ids=lambda one: one["metadata"]["name"])
def test_a_misspelt_field_is_noticed(document):
    checked = 0
    for path, _ in _sections(document["spec"]):
        broken = copy.deepcopy(document)
        section = broken["spec"]
        for step in path:
            section = section[step]
        section["misspelt"] = "x"
        assert round_trip(broken) != broken, path
        checked += 1
    assert checked >= 2


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
        round_trip(broken)


def test_each_certificate_has_an_issuer_and_the_authority_is_self_signed():
    issuers = {d["metadata"]["name"]: d["spec"] for d in documents() if d["kind"] == "Issuer"}
    authority = named("Certificate", "srch-dist-ca")["spec"]
    assert authority["isCA"] is True
    assert issuers[authority["issuerRef"]["name"]] == {"selfSigned": {}}
    certificate = named("Certificate", "srch-dist")["spec"]
    issuer = issuers[certificate["issuerRef"]["name"]]
    assert issuer == {"ca": {"secretName": authority["secretName"]}}


def test_pods_mount_the_secret_and_the_certificate_names_the_scheduler():
    manifests = build("overlays/tls")
    spec = named("Certificate", "srch-dist")["spec"]
    mounted = [
        volume["secret"]["secretName"]
        for document in manifests
        for pod in pod_specs(document)
        for volume in pod.get("volumes", [])
        if volume["name"] == "tls"
    ]
    assert mounted == [spec["secretName"]] * 3  # scheduler, workers, job
    service = one(manifests, "Service", "srch-dist-scheduler")["metadata"]
    name, namespace = service["name"], service["namespace"]
    assert spec["dnsNames"] == [name, f"{name}.{namespace}.svc"]
    assert set(spec["usages"]) == {"server auth", "client auth"}  # a worker is server and client
