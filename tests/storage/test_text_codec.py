"""The bug that `_text_codec` works around is still there, and the workaround is in force.

If a test of a bug fails, the installed numcodecs or Zarr has fixed it: then `_text_codec` can go.
"""

from __future__ import annotations

import subprocess
import sys

import numcodecs
import numpy as np
import pytest
from zarr.registry import get_codec_class

from srch_dist.storage import _text_codec

# Two texts, and a count of 2³² - 1.
CHUNK = b"\xff\xff\xff\xff" + b"\x01\x00\x00\x00a" + b"\x02\x00\x00\x00bc"

LIMITED = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
try:
    {call}
except Exception as error:
    print(type(error).__name__, error)
"""

FILTER = f"""
from numcodecs.vlen import VLenUTF8
{LIMITED.format(call=f"VLenUTF8().decode({CHUNK!r})")}
"""

ARRAY = f"""
import sys
import numpy as np
import zarr
array = zarr.create_array(
    sys.argv[1], shape=(2,), chunks=(2,), dtype=np.dtypes.StringDType(), compressors=None
)
array[:] = np.array(["a", "bc"], np.dtypes.StringDType())
open(f"{{sys.argv[1]}}/c/0", "r+b").write({CHUNK!r})
{LIMITED.format(call="array[:]")}
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit the memory")
@pytest.mark.parametrize("script", [FILTER, ARRAY], ids=["numcodecs", "Zarr"])
def test_upstream_still_allocates_what_a_corrupt_count_claims(tmp_path, script):
    """In a process of its own, whose address space is limited to 8 GiB."""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "a.zarr")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    fixed = "upstream has fixed the bug: srch_dist/storage/_text_codec.py can go"
    assert done.stdout.startswith("MemoryError"), f"{fixed}\n{done.stdout}{done.stderr}"


def test_importing_the_module_replaces_the_codec_of_the_process():
    assert numcodecs.get_codec({"id": "vlen-utf8"}).__class__ is _text_codec.CheckedFilter
    assert get_codec_class("vlen-utf8") is _text_codec.VLenUTF8Codec


@pytest.mark.parametrize("count", [3, 4, 2**32 - 1])
def test_counts_beyond_the_bytes_of_a_chunk_are_refused(count):
    content = count.to_bytes(4, "little") + CHUNK[4:]
    with pytest.raises(ValueError, match=rf"{count} texts in 15 bytes|truncated"):
        _text_codec.CheckedFilter().decode(content)


def test_other_chunks_are_decoded_as_numcodecs_does():
    texts = np.array(["a", "ß", "", "b" * 300], dtype=object)
    codec = _text_codec.CheckedFilter()
    content = codec.encode(texts)
    assert bytes(content) == bytes(numcodecs.VLenUTF8().encode(texts))
    assert codec.decode(content).tolist() == texts.tolist()
