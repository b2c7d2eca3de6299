import numpy as np
import pytest

from srch_dist.runtime import tasks
from tests.helpers import reference

N = 70


@pytest.fixture(scope="module", params=[1, 2, 5])
def run(request, prepare):
    features = reference.paired_features(0, N, (8, 6))
    graph = {"k": 4, "symmetry": "mutual"}
    return prepare(features, graph=graph, partition_rows=12, blocks=request.param)


@pytest.fixture(scope="module")
def graph(run):
    return run.graph()


def test_blocks_hold_every_edge_with_the_sum_of_its_weights(run, graph):
    dense = np.zeros((N, N))
    for block in tasks.run_all(graph.blocks):
        numbers = np.concatenate([block.first_row + np.arange(block.rows), block.halo])
        np.add.at(dense, (block.first_row + block.owners, numbers[block.columns]), block.weights)
    np.testing.assert_allclose(dense, run.weights().sum(axis=0), rtol=1e-6)


def test_blocks_are_the_rows_of_the_plan(run, graph):
    blocks = tasks.run_all(graph.blocks)
    spans = [(block.first_row, block.first_row + block.rows) for block in blocks]
    assert spans == [run.plan.block_span(b) for b in run.plan.blocks]


def test_copies_of_a_single_block_are_read_once_and_are_that_block(graph):
    copies = [graph.copy(number) for number in (0, 1, 0, 1)]
    assert copies[:2] == copies[2:]
    assert copies[0] is graph.blocks[0]
    assert (copies[1] is copies[0]) == (len(graph.blocks) > 1)
    first, second = tasks.run_all(copies[:2])
    for name, values in vars(first).items():
        np.testing.assert_array_equal(values, getattr(second, name))


def test_exchange_brings_each_block_the_rows_of_its_halo(run, graph):
    values = np.random.default_rng(0).normal(size=(N, 3))
    parts = [tasks.as_task_input(values[slice(*run.plan.block_span(b))]) for b in run.plan.blocks]
    halos = tasks.run_all(graph.exchange(parts))
    blocks = tasks.run_all(graph.blocks)
    assert (sum(len(block.halo) for block in blocks) > 0) == (len(blocks) > 1)
    for block, halo in zip(blocks, halos, strict=True):
        np.testing.assert_array_equal(halo, values[block.halo])
