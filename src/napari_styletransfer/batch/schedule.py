"""Tasks of a batch, done by the workers of a Dask cluster: one of this machine, or one that runs.

Called by `cli.batch`; knows nothing of pictures.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, TypeVar

from napari_styletransfer.errors import ConfigError, StyleTransferError

if TYPE_CHECKING:
    from distributed import Client

_POLL_SECONDS = 0.5
"""Between two looks at whether to stop, while nothing ends."""

_CONNECT_SECONDS = 20
"""How long a scheduler may take to answer."""

Task = TypeVar("Task")
Outcome = TypeVar("Outcome")


def run_on_cluster(
    client: Client, work: Callable[[Task], Outcome], tasks: Sequence[Task], should_stop: Callable[[], bool]
) -> Iterator[tuple[Task, Outcome | StyleTransferError]]:
    """Have tasks done by the workers of a cluster, and yield each, as it ends, with what came of it or an error.

    Another worker takes over the task of one that died; a task that costs several their life is given up
    (Dask's setting ``distributed.scheduler.allowed-failures``).
    """
    from distributed import CancelledError, wait

    # Impure: what a task does is write a file, whatever the same call did before.
    left = dict(zip(client.map(work, tasks, pure=False), tasks, strict=True))
    try:
        while left and not should_stop():
            try:
                ended = wait(list(left), timeout=_POLL_SECONDS, return_when="FIRST_COMPLETED").done
            except TimeoutError:
                continue
            for future in ended:
                task = left.pop(future)
                try:
                    yield task, future.result()
                except CancelledError as error:
                    raise StyleTransferError("The scheduler of the cluster is gone. Start the batch again.") from error
                except Exception as error:
                    yield task, StyleTransferError(f"{type(error).__name__}: {error}")
    finally:
        client.cancel(list(left))


@contextmanager
def cluster(workers: int | None, address: str | None) -> Iterator[Client]:
    """Give a client of a cluster: one of so many workers on this machine, or the one at an address.

    A worker does one task at a time. Those of this machine share its cores, and each has a process of its own.

    Raises
    ------
    ConfigError
        If nobody answers at the address.
    """
    import dask.config
    from distributed import Client, LocalCluster

    with ExitStack() as opened:
        if address is not None:
            try:
                client = Client(address, timeout=_CONNECT_SECONDS)
            except (OSError, ValueError) as error:
                raise ConfigError(
                    f"No Dask scheduler answers at {address}: {error}. Start one with 'dask scheduler', or use "
                    "--workers."
                ) from error
            yield opened.enter_context(client)
            return
        count = workers or 1
        threads = str(max(1, (os.cpu_count() or 1) // count))
        # Dask has the workers' allocator give memory back at once, to be faulted in anew for every feature map: a run
        # takes half as long again, or twice.
        opened.enter_context(dask.config.set({"distributed.nanny.pre-spawn-environ": {"OMP_NUM_THREADS": threads}}))
        local = LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            # The engine plans its memory itself; a worker that Dask ends for its size would lose its picture.
            memory_limit=None,
            dashboard_address=None,
        )
        yield opened.enter_context(Client(opened.enter_context(local)))


def worker_number() -> int | None:
    """Return which worker of this machine's cluster a task runs in, counted from 0; None elsewhere."""
    from distributed import get_worker

    try:
        name = get_worker().name
    except ValueError:
        return None
    return name if isinstance(name, int) else None
