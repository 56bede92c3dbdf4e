"""Section machine: what is a matter of speed and memory, and changes no byte on a CPU."""

from __future__ import annotations

from patchdm.config.section import NotNegative, Positive, Section


class Machine(Section):
    """How the work is shared out. No stage tracks it, and no hash contains it."""

    transfers: Positive
    """Files that are downloaded at the same time."""
    workers: Positive
    """Processes that decode photographs."""
    processes: Positive | None
    """Processes that share each step of a training, one a GPU. null: one GPU; without GPUs one of
    each of base.threads, which the batch is shared out among (a single one for short trainings)."""
    loaders: NotNegative
    """Further processes, of each of these, that read and draw ahead; 0: none."""
    rows_per_chunk: Positive | None
    """Patch rows of the canvas that are decoded at once in sampling; null: all."""
