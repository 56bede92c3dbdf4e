"""Sections train and latent: the trainings of the two models."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from patchdm.config.section import NotNegative, Positive, Probability, Rate, Section


class Train(Section):
    """Training of U-Net and code. Every budget is in images (windows) seen."""

    images_seen: Positive
    """Length of the training: one window of one image counts one."""
    batch_size: Positive
    """Windows per optimiser step, over all devices."""
    learning_rate: Rate
    code_learning_rate: Rate
    """Learning rate of the code table or joint encoder (the paper: the same)."""
    warmup_images: NotNegative
    """Images over which the learning rate rises linearly from 0."""
    lr_decay: Literal["none", "cosine"]
    """`none` is the paper's; cosine falls to 0 at the end of training."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)]
    """Decay of the weight average a step."""
    ema_warmup: bool
    """Cap the decay at (1 + step) / (10 + step), so that short trainings forget the start."""
    grad_clip: Rate
    """Largest norm of all gradients together."""
    min_snr_gamma: Rate | None
    """Weigh each time step by min(SNR, gamma), relative to x0 (2303.09556): less for steps of
    little noise. null: every step of the prediction type counts alike, as in the paper."""
    code_dropout: Probability
    """Probability of training a window without its global code (classifier-free guidance)."""
    position_dropout: Probability
    """Probability of training a window without its position."""
    windows: Literal["image", "batch"]
    """Draw the window position per image, or once a batch as the authors do."""
    mixed_precision: Literal["no", "bf16", "fp16"]
    channels_last: bool
    """Memory layout of the convolutions; a matter of speed."""
    log_every: Positive
    """Images seen between two points of the training curves."""
    checkpoint_every: Positive
    """Images seen between two resumable states."""
    sheet_every: Positive
    """Images seen between two sheets of samples."""


class Latent(Section):
    """The latent DDPM over global codes (Diffusion Autoencoders, 2111.15640)."""

    layers: Annotated[int, Field(ge=2)]
    hidden: Positive
    beta: Rate
    """Constant beta of its schedule (the paper: 0.008)."""
    codes_seen: Positive
    """Length of the training."""
    batch_size: Positive
    learning_rate: Rate
    lr_decay: Literal["none", "cosine"]
    """As in train."""
    weight_decay: Annotated[float, Field(ge=0)]
    ema_decay: Annotated[float, Field(ge=0, lt=1)]
    ema_warmup: bool
    grad_clip: Rate
    log_every: Positive
    """Codes seen between two points of the training curve."""
    checkpoint_every: Positive
    """Codes seen between two resumable states."""
    num_steps: Positive
    """DDIM steps when codes are sampled (the paper: 50)."""
