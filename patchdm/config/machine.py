"""Section machine: speed and memory; it changes no byte on a CPU."""

from __future__ import annotations

from patchdm.config.section import NotNegative, Positive, Section


class Machine(Section):
    """How the work is divided. No stage tracks it, and no hash contains it."""

    transfers: Positive
    """Files that are downloaded at the same time."""
    workers: Positive
    """Processes that decode photographs."""
    processes: Positive | None
    """Processes that share each training step, one per GPU. null: one GPU; without GPUs one process
    per base.threads, among which the batch is divided (a single one for short trainings)."""
    loaders: NotNegative
    """Further processes of each of these that read and draw ahead; 0: none."""
    rows_per_chunk: Positive | None
    """Patch rows of the canvas that sampling decodes at once; null: all."""
