"""Nothing that grows with the rows passes the scheduler or reaches the client."""

from contextlib import contextmanager

import distributed
import distributed.comm.tcp
import numpy as np
import pytest

from srch_dist import build_config, ingest_source, train_model
from srch_dist.runtime.cluster import connect
from tests.helpers import reference

pytestmark = pytest.mark.cluster

DIMS, BITS, PARTITIONS = (40, 32), 64, 6
# What the algorithm has to move: Gram matrices of all modalities, and X B' and W of each.
UNIT = 8 * max(sum(DIMS) ** 2, sum(DIMS) * BITS)
# Sums over anchors and over scores of all modalities, which these bound, stay below that.
SMALL = {"anchors": 40, "loop_bits": 16}


@contextmanager
def recorded_messages():
    """Sizes in bytes of all messages that this process, with scheduler and client, handles."""
    sizes = []
    tcp = distributed.comm.tcp
    write, decode = tcp.TCP.write, tcp.from_frames

    async def counted_write(self, *arguments, **options):
        size = await write(self, *arguments, **options)
        sizes.append(size)
        return size

    async def counted_decode(frames, *arguments, **options):
        sizes.append(sum(memoryview(frame).nbytes for frame in frames))
        return await decode(frames, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tcp.TCP, "write", counted_write)
        patch.setattr(tcp, "from_frames", counted_decode)
        yield sizes


@pytest.fixture(scope="module")
def measure(tmp_path_factory):
    """A function from a number of rows to the largest message of a training run."""
    with connect(workers=2):
        address = distributed.default_client().scheduler.address

        def largest(n):
            folder = tmp_path_factory.mktemp("traffic")
            np.savez(folder / "data.npz", **reference.paired_features(0, n, DIMS))
            ingest_source(folder / "data.npz", folder / "store.zarr")
            config = build_config(
                {
                    "data": str(folder / "store.zarr"),
                    "out": str(folder / "run"),
                    "scheduler": address,
                    "bits": BITS,
                    "partition_rows": -(-n // PARTITIONS),
                    "blocks": 2,
                    "method": {"iterations": 2, **SMALL},
                    "solver": {"tolerance": 1e-2},
                    "graph": {"k": 4, "recall_rows": 50},
                    "evaluate": False,
                }
            )
            with recorded_messages() as sizes:
                train_model(config)
            return max(sizes)

        yield largest


def test_messages_of_worker_results_are_seen(measure):  # noqa: ARG001
    client = distributed.default_client()
    with recorded_messages() as sizes:
        assert client.submit(np.ones, 100_000).result().sum() == 100_000
        sent = client.submit(np.sum, np.ones(200_000)).result()
    assert sent == 200_000
    assert sum(size >= 800_000 for size in sizes) >= 2
    assert max(sizes) >= 1_600_000


def test_largest_message_is_bounded_by_the_dimensions_and_does_not_grow_with_rows(measure):
    few, many = 3_000, 17_000
    first, second = measure(few), measure(many)
    assert first >= 8 * sum(DIMS) * BITS
    assert first <= 3 * UNIT
    assert second <= 1.1 * first
    # So the packed codes of all rows, the least that grows with them, would already be too much.
    assert 1.1 * first < many * BITS / 8
