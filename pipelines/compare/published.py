"""Published MAP of UGACH and UCH, which need GPUs and raw data and are not run here.

Source: Table 1 of the paper (SRCH, IJCAI 2020), on VGG-16 fc7 and universal sentence encoder
features. Table 1 marks the UCH values as copied from the UCH paper. Cells "not reported" are
omitted. The values are not comparable with results on other features of the same data sets.
"""

from __future__ import annotations

_BITS = (16, 32, 64)
_WIKI, _FLICKR, _COCO, _NUS = "Wiki", "MIRFlickr-25K", "MSCOCO", "NUS-WIDE"

_UGACH, _UCH = "UGACH (Zhang et al. 2018)", "UCH (Li et al. 2019, as reported there)"

# (method, set): image to text, then text to image, at 16, 32 and 64 bits.
_FIGURES = {
    (_UGACH, _WIKI): ((0.3593, 0.3759, 0.3852), (0.3374, 0.3673, 0.3805)),
    (_UGACH, _FLICKR): ((0.6430, 0.6787, 0.6801), (0.6564, 0.6918, 0.6990)),
    (_UGACH, _COCO): ((0.5498, 0.5837, 0.5991), (0.5661, 0.5948, 0.6069)),
    (_UGACH, _NUS): ((0.5408, 0.5345, 0.5537), (0.5449, 0.5540, 0.5654)),
    (_UCH, _FLICKR): ((0.6540, 0.6690, 0.6790), (0.6610, 0.6670, 0.6680)),
    (_UCH, _COCO): ((0.4470, 0.4710, 0.4850), (0.4460, 0.4690, 0.4880)),
}


def published_records() -> list[dict[str, object]]:
    """One record per method, data set and code length, with MAP of both directions."""
    return [
        {"method": method, "set": name, "bits": bits, "map": list(pair), "source": "paper, Table 1"}
        for (method, name), values in _FIGURES.items()
        for bits, *pair in zip(_BITS, *values, strict=True)
    ]
