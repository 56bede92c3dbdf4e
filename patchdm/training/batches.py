"""Micro-batches in their order, drawn in worker processes or in this one."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Generator, Iterator

from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from patchdm.errors import PatchDMError
from patchdm.training.plan import Plan

Batch = dict[str, Tensor | None]
"""Keyword arguments of the module's forward; `t` and `image` are among them."""

Draw = Callable[[range], Batch]
"""Numbers of items -> their batch, a function of these numbers alone."""


class _MicroBatches(Dataset[Batch]):
    def __init__(self, draw: Draw, plan: Plan) -> None:
        self.draw, self.plan = draw, plan

    def __getitem__(self, number: int) -> Batch:
        return self.draw(self.plan.items(number))


def batches(
    draw: Draw,
    plan: Plan,
    accelerator: Accelerator,
    first_step: int,
    workers: int,
    start_worker: Callable[[int], None] | None,
) -> Generator[Batch, None, None]:
    """Yield the micro-batches of one process from a step on, on its device.

    The micro-batches of a step go round the processes in turn.

    Args:
        draw, plan: makes a micro-batch; sizes and length of the training.
        accelerator: of the process: its device, its rank and how many processes share each step.
        first_step: where it begins.
        workers: processes that draw ahead; 0 draws here, when asked.
        start_worker: called in each worker with its number.
    """
    first, end = first_step * plan.micro_batches, plan.steps * plan.micro_batches
    loader = DataLoader(
        _MicroBatches(draw, plan),
        batch_size=None,
        sampler=range(first + accelerator.process_index, end, accelerator.num_processes),
        num_workers=workers,
        worker_init_fn=start_worker,
        pin_memory=accelerator.device.type == "cuda",
    )
    try:
        for batch in loader:
            yield {
                name: value.to(accelerator.device, non_blocking=True)
                if isinstance(value, Tensor)
                else value
                for name, value in batch.items()
            }
    except BaseException:
        # Torch tells of a dead worker by a signal, which may come late: while it ends the other
        # workers, where it would print a traceback.
        if workers and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        raise


@contextlib.contextmanager
def workers_named(workers: int) -> Iterator[None]:
    """Say in one line that a worker died: torch tells us by a signal, amid whatever we do.

    Raises:
        PatchDMError: one did, most likely for lack of shared memory.
    """
    try:
        yield
    except (RuntimeError, ConnectionError, EOFError) as error:
        signs = ("DataLoader worker", "unable to write to file")
        lost = not isinstance(error, RuntimeError) or any(sign in str(error) for sign in signs)
        if not workers or not lost:
            raise
        raise PatchDMError(
            f"machine.loaders is {workers}: a worker died, or shared memory (/dev/shm) is full; "
            "expected fewer, 0 needs none"
        ) from error
