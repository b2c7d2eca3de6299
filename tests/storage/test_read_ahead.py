"""The next item is read during the work on this one, and no more than that."""

import threading
import weakref

import numpy as np
import pytest

from srch_dist.storage.read_ahead import read_ahead


def test_items_come_in_order_and_the_next_is_read_during_the_work():
    begun = [threading.Event() for _ in range(4)]

    def read(item):
        begun[item].set()
        return item

    for item in read_ahead(read, [0, 1, 2, 3]):
        following = min(item + 1, 3)
        assert begun[following].wait(10)
        assert not any(event.is_set() for event in begun[item + 2 :])
    assert all(event.is_set() for event in begun)


def test_never_more_than_two_items_are_in_memory():
    alive = []

    class Block(np.ndarray):
        pass

    def read(_):
        block = np.zeros(8).view(Block)
        alive.append(weakref.ref(block))
        assert sum(ref() is not None for ref in alive) <= 2
        return block

    total = 0
    for block in read_ahead(read, range(6)):
        total += len(block)
        del block
    assert total == 48


def test_what_goes_wrong_in_reading_is_raised_in_the_work():
    def read(item):
        if item == 1:
            raise ValueError("row 1")
        return item

    found = []
    with pytest.raises(ValueError, match="row 1"):
        found.extend(read_ahead(read, [0, 1, 2]))


def test_a_single_item_needs_no_thread():
    (name,) = read_ahead(lambda _: threading.current_thread().name, [0])
    assert name == threading.current_thread().name
