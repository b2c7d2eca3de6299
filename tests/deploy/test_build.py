"""deploy/build.sh: the digest of the pushed image reaches the manifests; `docker` is a stub."""

import os
import shutil
import subprocess

import pytest
import yaml

from tests.helpers.manifests import ROOT, containers, kustomize

DIGEST = "sha256:" + "5d" * 32
# Records its arguments, and writes and prints what buildx would.
DOCKER = f"""#!/bin/bash
printf '%s ' "$@" >> "$CALLS"; echo >> "$CALLS"
while [[ $# -gt 0 ]]; do
    case $1 in
        --metadata-file) printf '{{\n  "containerimage.digest": "%s"\n}}' "{DIGEST}" > "$2" ;;
        --format) [[ $2 == *"$MISSING"* ]] && echo "{{}}" || echo '{{"SPDX": {{}}}}' ;;
    esac
    shift
done
"""


@pytest.fixture
def checkout(tmp_path):
    """A repository with the files that the script needs."""
    folder = tmp_path / "checkout"
    shutil.copytree(ROOT / "deploy", folder / "deploy")
    (folder / "srch_dist").mkdir()
    shutil.copy(ROOT / "srch_dist" / "__init__.py", folder / "srch_dist")
    (folder / ".gitignore").write_text("dist/\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "docker").write_text(DOCKER)
    (tmp_path / "bin" / "docker").chmod(0o755)
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *words], cwd=folder, check=True, timeout=60)
    return folder


def run(checkout, *arguments, missing="nothing"):
    path = f"{checkout.parent / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [checkout / "deploy" / "build.sh", *arguments],
        env={**os.environ, "PATH": path, "CALLS": str(checkout.parent / "calls")}
        | {"MISSING": missing},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_digest_of_the_pushed_image_is_written_into_the_manifests(checkout):
    done = run(checkout, "registry.example:5000/team/srch-dist", "1.2.3")
    assert done.returncode == 0, done.stderr
    built, *inspected = (checkout.parent / "calls").read_text().splitlines()
    for option in ("--push", "--sbom=true", "--provenance=mode=max"):
        assert option in built.split()
    assert "--tag registry.example:5000/team/srch-dist:1.2.3 " in built
    image = f"registry.example:5000/team/srch-dist@{DIGEST}"
    assert all(f"inspect {image} " in call for call in inspected)
    assert {path.name for path in (checkout / "dist" / "image").iterdir()} == {
        *("metadata.json", "provenance.json", "sbom.json"),
    }
    rendered = kustomize(checkout / "deploy" / "kubernetes" / "overlays" / "production")
    images = {
        container["image"]
        for document in yaml.safe_load_all(rendered.stdout)
        for _, container in containers(document)
    }
    assert images == {image}
    assert f"published {image} from commit" in done.stdout


def test_the_tag_is_the_version_of_the_package(checkout):
    from srch_dist import __version__

    assert run(checkout, "registry.example/srch-dist").returncode == 0
    built = (checkout.parent / "calls").read_text().splitlines()[0]
    assert f"--tag registry.example/srch-dist:{__version__} " in built


def test_changes_that_no_commit_has_are_refused(checkout):
    (checkout / "deploy" / "health.py").write_text("")
    done = run(checkout, "registry.example/srch-dist")
    assert done.returncode == 2
    assert "the checkout has changes" in done.stderr
    assert not (checkout.parent / "calls").exists()


@pytest.mark.parametrize("kind", ["SBOM", "Provenance"])
def test_an_image_without_attestations_does_not_reach_the_manifests(checkout, kind):
    done = run(checkout, "registry.example/srch-dist", missing=kind)
    assert done.returncode == 2
    assert f"has no {kind}" in done.stderr
    status = ["git", "status", "--porcelain"]
    changed = subprocess.run(status, cwd=checkout, capture_output=True, text=True, check=True)
    assert changed.stdout == ""


@pytest.mark.parametrize("name", ["registry.example/srch-dist:1", f"srch-dist@{DIGEST}"])
def test_a_name_with_a_tag_or_digest_is_refused(checkout, name):
    done = run(checkout, name)
    assert done.returncode == 2
    assert f"{name} has a tag or digest" in done.stderr
