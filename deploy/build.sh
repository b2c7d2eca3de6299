#!/usr/bin/env bash
# Build and publish the image with an SBOM and provenance, and write its digest into the manifests:
#   deploy/build.sh REGISTRY/srch-dist [TAG]
# Needs docker buildx and the right to push. People read the tag; manifests name the digest. The SBOM
# (SPDX) and the provenance (SLSA) are attached to the image, and copied to dist/image.
set -euo pipefail
fail() {
    echo "error: $*" >&2
    exit 2
}
[[ $# -ge 1 && $# -le 2 ]] || fail "usage: deploy/build.sh REGISTRY/srch-dist [TAG]"
name=$1
[[ $name != *@* && ${name##*/} != *:* ]] || fail "$name has a tag or digest; give the tag as second"
cd "$(dirname "$0")/.."
tag=${2:-$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' srch_dist/__init__.py)}
commit=$(git rev-parse HEAD)
[[ -z $(git status --porcelain) ]] \
    || fail "the checkout has changes, and provenance names a commit; commit or stash them"
place=dist/image
mkdir -p "$place"
docker buildx build --file deploy/Dockerfile --tag "$name:$tag" --push \
    --sbom=true --provenance=mode=max \
    --label "org.opencontainers.image.revision=$commit" \
    --label "org.opencontainers.image.version=$tag" \
    --metadata-file "$place/metadata.json" .
digest=$(sed -n 's/.*"containerimage.digest": *"\(sha256:[0-9a-f]\{64\}\)".*/\1/p' \
    "$place/metadata.json")
[[ -n $digest ]] || fail "$place/metadata.json has no digest; update docker buildx"
for kind in SBOM Provenance; do
    file=$place/${kind,,}.json
    docker buildx imagetools inspect "$name@$digest" --format "{{ json .$kind }}" > "$file"
    [[ $(< "$file") == *:* ]] || fail "$name@$digest has no $kind; use a builder that makes" \
        "attestations: docker buildx create --use"
done
manifest=deploy/kubernetes/components/image/kustomization.yaml
sed -i -e "s#^\( *newName: \).*#\1$name#" -e "s#^\( *digest: \).*#\1$digest#" "$manifest"
grep -qF "newName: $name" "$manifest" && grep -qF "digest: $digest" "$manifest" \
    || fail "$manifest has no newName or digest"
echo "published $name@$digest from commit $commit; commit $manifest"
