"""Sections train and latent: the training of the image model and of the latent model."""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeVar

from pydantic import Field, model_validator

from patchdm.choices import Precision
from patchdm.config.section import NotNegative, Positive, Probability, Rate, Section, check_multiple

_Trained = TypeVar("_Trained", "Train", "Latent")


def _check_profile(section: _Trained) -> _Trained:
    """Refuse the power profile without its width, and other profiles with one."""
    if (section.ema_profile == "power") != (section.ema_std is not None):
        expected = "a width" if section.ema_profile == "power" else "null"
        raise ValueError(
            f"ema_std is {section.ema_std}, expected with ema_profile = {section.ema_profile}: "
            f"{expected}"
        )
    return section


class Train(Section):
    """Training of U-Net and code. Every budget is in images (windows) seen."""

    images_seen: Positive
    """Length of the training; each window of an image counts one."""
    batch_size: Positive
    """Windows per optimiser step, over all devices."""
    micro_batch_size: Positive | None
    """Windows that a process computes at once, a divisor of batch_size; their gradients add up to
    those of the batch. It changes memory, and the draws of dropout. null: a process's share, or
    without GPUs that of one of base.threads, however many processes there are."""
    learning_rate: Rate
    code_learning_rate: Rate
    """Learning rate of the code table or joint encoder (the paper: the same)."""
    warmup_images: NotNegative
    """Images seen while the learning rate rises linearly from 0."""
    lr_decay: Literal["none", "cosine"]
    """`none` is the paper's; cosine falls to 0 at the end of training."""
    ema_profile: Literal["constant", "warmup", "power"]
    """Decay of the weight average over the steps: constant (the paper); at most
    (1 + step) / (10 + step), so that short trainings forget the start; or the power law of
    2312.02696, whose memory is a fixed share of the training so far."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)]
    """Decay per step of the profiles constant and warmup."""
    ema_std: Annotated[float, Field(gt=0, lt=0.28)] | None
    """Width (standard deviation) of the power profile as a share of the training; else null."""
    grad_clip: Rate
    """Largest norm of all gradients together."""
    min_snr_gamma: Rate | None
    """Weight each time step by min(SNR, gamma), relative to x0 (2303.09556): less for steps with
    little noise. null: all time steps count equally, as in the paper."""
    code_dropout: Probability
    """Probability of training a window without its global code (classifier-free guidance)."""
    position_dropout: Probability
    """Probability of training a window without its position."""
    windows: Literal["image", "batch"]
    """Draw the window position per image, or per batch as the authors do."""
    mixed_precision: Precision
    """auto: bf16 if the device computes in it, else no."""
    channels_last: bool
    """Memory layout of the convolutions; it changes speed."""
    compile: bool
    """Pass the training step through torch.compile, which takes minutes and may gain speed."""
    gradient_checkpointing: bool
    """Compute activations twice instead of storing them: less memory, a third more time."""
    log_every: Positive
    """Images seen between two points of the training curves."""
    checkpoint_every: Positive
    """Images seen between two resumable states."""
    sheet_every: Positive
    """Images seen between two sheets of samples."""

    @property
    def unconditional(self) -> bool:
        """Whether the network also learns to work without conditions, as guidance requires."""
        return bool(self.code_dropout and self.position_dropout)

    @model_validator(mode="after")
    def _shares_are_even(self) -> Self:
        micro = self.micro_batch_size or 1
        check_multiple(self.batch_size, micro, "batch_size", "micro_batch_size")
        return self

    _has_its_profile = model_validator(mode="after")(_check_profile)

    def cpu_shares(self, threads: int) -> int:
        """Return the number of equal shares of a batch on CPUs, at most one per thread."""
        most = self.batch_size // (self.micro_batch_size or 1)
        return max(share for share in range(1, min(threads, most) + 1) if most % share == 0)


class Latent(Section):
    """The latent DDPM over global codes (Diffusion Autoencoders, 2111.15640)."""

    layers: Annotated[int, Field(ge=2)]
    hidden: Positive
    beta: Rate
    """Constant beta of the schedule (the paper: 0.008)."""
    codes_seen: Positive
    """Length of the training."""
    batch_size: Positive
    learning_rate: Rate
    lr_decay: Literal["none", "cosine"]
    """As in train."""
    weight_decay: Annotated[float, Field(ge=0)]
    ema_profile: Literal["constant", "warmup", "power"]
    ema_decay: Annotated[float, Field(ge=0, lt=1)]
    ema_std: Annotated[float, Field(gt=0, lt=0.28)] | None
    grad_clip: Rate
    log_every: Positive
    """Codes seen between two points of the training curve."""
    checkpoint_every: Positive
    """Codes seen between two resumable states."""
    num_steps: Annotated[int, Field(gt=0, le=1000)]
    """DDIM steps to sample a code (the paper: 50), of the 1000 of the schedule."""

    _has_its_profile = model_validator(mode="after")(_check_profile)
