"""Work done ahead: the next batch is made while the net is busy with this one."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor


def ahead(work: Callable, items: Iterable) -> Iterator:
    """work(item) for each item in order, always one item ahead, by a thread of its own."""
    with ThreadPoolExecutor(1) as worker:
        pending = []
        for item in items:
            pending.append(worker.submit(work, item))
            if len(pending) == 2:
                yield pending.pop(0).result()
        for last in pending:
            yield last.result()
