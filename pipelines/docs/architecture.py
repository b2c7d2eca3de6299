"""Draw docs/figures/architecture-*.svg: what a run reads, computes and stores.

python -m pipelines.docs.architecture
"""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from .pictures import Scheme, save

# Text and place of each box: x, y of the lower left corner, width, height.
_BOXES = {
    "store": ("feature store\nfeatures.zarr", 0.0, 2.0, 1.7, 0.9),
    "features": ("features\ncentred, unit length,\nin training order", 2.3, 2.0, 1.9, 0.9),
    "graph": ("kNN graph\nper modality,\nsearched by cluster", 2.3, 0.3, 1.9, 0.9),
    "w": ("W-step\nprojections\n(client)", 5.0, 2.0, 1.4, 0.9),
    "z": ("Z-step\nsparse systems,\none per bit", 5.0, 0.3, 1.4, 0.9),
    "s": ("S-step\nre-weight edges", 7.0, 0.3, 1.4, 0.9),
    "b": ("B-step\none pass over\nthe features", 7.0, 2.0, 1.4, 0.9),
    "model": ("model.npz\nencoders", 9.2, 2.0, 1.5, 0.9),
    "codes": ("codes.zarr\nscores, report", 9.2, 0.3, 1.5, 0.9),
}
_STORED = ("store", "features", "graph", "model", "codes")
# From box and side, to box and side.
_ARROWS = (
    (("store", "right"), ("features", "left")),
    (("features", "bottom"), ("graph", "top")),
    (("features", "right"), ("w", "left")),
    (("graph", "right"), ("z", "left")),
    (("w", "bottom"), ("z", "top")),
    (("z", "right"), ("s", "left")),
    (("s", "top"), ("b", "bottom")),
    (("b", "left"), ("w", "right")),
    (("b", "right"), ("model", "left")),
    (("model", "bottom"), ("codes", "top")),
)


def _point(name: str, side: str) -> tuple[float, float]:
    _, x, y, width, height = _BOXES[name]
    return {
        "left": (x, y + height / 2),
        "right": (x + width, y + height / 2),
        "top": (x + width / 2, y + height),
        "bottom": (x + width / 2, y),
    }[side]


def _draw(figure: Figure, scheme: Scheme) -> None:
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set_xlim(-0.1, 10.8)
    axes.set_ylim(-0.35, 3.6)
    frame = FancyBboxPatch((4.75, 0.05), 3.9, 3.1, "round,pad=0.05", fill=False)
    frame.set(edgecolor=scheme.muted, linestyle="--")
    axes.add_patch(frame)
    axes.text(6.7, 3.28, "loop: until the codes settle, a checkpoint each iteration", ha="center")
    for name, (text, x, y, width, height) in _BOXES.items():
        box = FancyBboxPatch((x, y), width, height, "round,pad=0.03")
        stored = name in _STORED
        box.set(facecolor=scheme.fill if stored else "none")
        box.set(edgecolor=scheme.series[0] if stored else scheme.ink)
        axes.add_patch(box)
        axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=9)
    for start, end in _ARROWS:
        style = {"arrowstyle": "-|>", "color": scheme.muted, "shrinkA": 3, "shrinkB": 3}
        axes.annotate("", _point(*end), _point(*start), arrowprops=style)
    axes.text(
        0, -0.3, "blue: stored on disk, committed with checksums", color=scheme.muted, fontsize=9
    )


if __name__ == "__main__":
    save("architecture", (10, 3.6), _draw)
