"""Parts are delivered side by side, a few at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait


def do_all(tasks: Iterable[Callable[[], None]], count: int, *, at_once: int, stop: threading.Event) -> None:
    """Do all of it; the first failure stops the others, and is raised.

    Args:
        tasks: What to do; a single one is done in this thread.
        count: Number of tasks.
        at_once: How many of them run side by side.
        stop: Set where one has failed: the others look at it and end early.
    """
    if count <= 1:
        for task in tasks:
            task()
        return
    futures: list[Future[None]] = []
    with ThreadPoolExecutor(at_once, "claude-batch-results") as pool:
        try:
            for task in tasks:
                futures.append(pool.submit(task))
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
        except BaseException:
            stop.set()
            for future in futures:
                future.cancel()
            raise
