"""One step ahead: the next item is made on another thread while this one is used."""

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")
_END = object()


def ahead(items: Iterable[S], make: Callable[[S], T]) -> Generator[T, None, None]:
    """`map(make, items)`, overlapped: the same results in the same order, one of them waiting.

    An error is raised where its result would have come. Close the iterator to give up early: it
    waits for the result in the making.
    """
    iterator = iter(items)

    def following() -> T | object:
        item = next(iterator, _END)
        return item if item is _END else make(item)  # type: ignore[arg-type]

    with ThreadPoolExecutor(1, "ahead") as worker:
        try:
            coming = worker.submit(following)
            while (result := coming.result()) is not _END:
                coming = worker.submit(following)
                yield result  # type: ignore[misc]
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:  # on the same thread: it comes after the result in the making
                worker.submit(close).result()
