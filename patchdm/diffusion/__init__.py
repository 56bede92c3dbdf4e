"""Noise schedules, the training loss and guidance."""

from patchdm.diffusion.loss import training_loss

__all__ = ["training_loss"]
