"""The image: the Dockerfile passes hadolint, the lock file pins and hashes every dependency."""

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.helpers.manifests import ROOT, build, pod_specs

DOCKERFILE = ROOT / "deploy" / "Dockerfile"
LOCK = ROOT / "deploy" / "requirements.lock"


def hadolint(path: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [Path(sys.executable).with_name("hadolint"), "--no-color", path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_dockerfile_passes_hadolint():
    done = hadolint(DOCKERFILE)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        (re.search(r"FROM python:\S+", DOCKERFILE.read_text())[0], "DL3006"),
        ("install -y --no-install-recommends tini=0.19.0-1*", "DL3008"),
        ("USER 10001:10001", "DL3002"),
    ],
)
def test_hadolint_reports_broken_rules(tmp_path, line, rule):
    worse = {"DL3006": "FROM python", "DL3008": "install -y tini", "DL3002": "USER root"}[rule]
    text = DOCKERFILE.read_text()
    assert line in text
    (tmp_path / "Dockerfile").write_text(text.replace(line, worse))
    done = hadolint(tmp_path / "Dockerfile")
    assert done.returncode != 0
    assert rule in done.stdout


def test_the_user_is_numeric_and_equals_that_of_the_pods():
    (user,) = re.findall(r"^USER (\d+):\1$", DOCKERFILE.read_text(), re.M)
    for document in build("overlays/production"):
        for pod in pod_specs(document):
            assert str(pod["securityContext"]["runAsUser"]) == user


def test_pods_pass_arguments_to_the_entry_point_and_do_not_replace_it():
    (entry,) = re.findall(r"^ENTRYPOINT (.*)$", DOCKERFILE.read_text(), re.M)
    assert entry == '["/usr/bin/tini", "--"]'
    for document in build("overlays/production"):
        for pod in pod_specs(document):
            for container in [*pod.get("initContainers", []), *pod["containers"]]:
                assert "command" not in container


def locked() -> dict[str, str]:
    """Versions by package name; checks that every entry is pinned and hashed."""
    entries = re.split(r"\n(?=[a-z0-9])", "\n" + LOCK.read_text())[1:]
    versions = {}
    for entry in entries:
        name, version = re.match(r"([a-z0-9._-]+)==(\S+) \\\n", entry).groups()
        assert len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", entry)) >= 1, name
        versions[canonicalize_name(name)] = version
    return versions


def test_the_lock_file_has_an_allowed_version_of_every_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"], *extras["image"], *extras["report"], *extras["s3"]]
    versions = locked()
    for requirement in map(Requirement, needed):
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)])
    assert len(versions) > 30


def test_ci_installs_the_locked_versions():
    script = (ROOT / ".ci" / "run").read_text()
    (line,) = re.findall(r"^ *(sed .*requirements\.lock) > \"\$PIP_CONSTRAINT\"$", script, re.M)
    done = subprocess.run(
        ["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert dict(one.split("==") for one in done.stdout.split()) == locked()
    assert script.index(line) < script.index("bash -euo pipefail -c")


@pytest.mark.skipif(
    "PIP_CONSTRAINT" not in os.environ, reason="installed without the lock file; .ci/run uses it"
)
def test_the_versions_under_test_are_the_locked_ones():
    found = {canonicalize_name(one.name): one.version for one in distributions()}
    both = locked().keys() & found.keys()
    assert len(both) > 30
    assert {name: found[name] for name in both} == {name: locked()[name] for name in both}


def test_base_images_are_pinned_by_digest_and_are_the_same():
    images = re.findall(r"^FROM (\S+)", DOCKERFILE.read_text(), re.M)
    assert len(images) == 2
    assert set(images) == {images[0]}
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm@sha256:[0-9a-f]{64}", images[0])


def test_the_image_has_no_pip():
    """`.ci/image` runs the lines of the build stage and looks for pip in what they make."""
    build_stage, final = re.split(r"^FROM ", DOCKERFILE.read_text(), flags=re.M)[1:]
    assert "venv --without-pip /opt/venv" in build_stage
    assert "uninstall --yes setuptools" in build_stage
    assert re.search(r"pip uninstall --yes .*\bpip\b", final)
    assert "ensurepip" in final
    assert "pip install" not in final


def test_files_that_the_dockerfile_copies_exist_and_are_sent_to_the_builder():
    ignored = DOCKERFILE.with_name("Dockerfile.dockerignore").read_text().splitlines()
    sources = [
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE.read_text(), re.M)
        for source in line.split()[:-1]
    ]
    assert len(sources) >= 6
    for source in sources:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignored, source


def test_the_health_command_fails_without_an_answer():
    done = subprocess.run(
        [sys.executable, ROOT / "deploy" / "health.py"],
        env={"HEALTH_PORT": "9", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "refused" in done.stderr
