"""Sections model and diffusion: the network and its noise."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from patchdm.config.section import NotNegative, Positive, Probability, Rate, Section, check_multiple


class Model(Section):
    """PatchUNet and the semantic code (PAPER section 3; backbone: ADM)."""

    patch_size: Annotated[int, Field(ge=4)]
    """Side p of a square patch in pixels."""
    pixel_fold: Positive
    """Side of the pixel squares folded into channels before the network; the paper: 1."""
    channels: Annotated[list[Positive], Field(min_length=1)]
    """Width of each resolution level, finest first (ADM: base channels times multipliers)."""
    res_blocks: Positive
    """Residual blocks per encoder level; the decoder has one more."""
    attention_levels: list[NotNegative]
    """Levels (0 = full resolution) whose residual blocks are followed by self-attention."""
    norm_groups: Positive
    """Groups of every GroupNorm (the paper's network: 32), at most the channels normalised."""
    dropout: Probability
    """Dropout inside residual blocks."""
    embed_dim: Positive
    """Width of the joint embedding of time and position, half each."""
    code: Literal["table", "encoder", "none"]
    """Global code: optimised table, jointly trained encoder, or none (an ablation)."""
    code_dim: Positive
    """Width of the global code."""
    position: bool
    """Condition on the patch position; false is an ablation."""
    collage: Literal["feature", "pixel-fixed", "pixel-random", "none"]
    """feature: the paper. The others are its ablations, with the same network."""

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        unit = self.pixel_fold * 2 ** len(self.channels)
        check_multiple(self.patch_size, unit, "patch_size", "pixel_fold * 2 ** len(channels)")
        check_multiple(self.embed_dim, 4, "embed_dim", "4")
        for width in self.channels:
            check_multiple(width, min(self.norm_groups, width), "channels", "norm_groups")
        for level in self.attention_levels:
            if level >= len(self.channels):
                raise ValueError(
                    f"attention_levels has {level}, expected 0 to {len(self.channels) - 1}"
                )
        return self


class Diffusion(Section):
    """Noise schedule and what the network predicts; names are those of diffusers."""

    num_train_timesteps: Positive
    beta_schedule: Literal["linear", "squaredcos_cap_v2"]
    """`linear` is the paper's; the cosine schedule of 2102.09672 keeps more signal."""
    beta_start: Rate
    """First beta of the linear schedule."""
    beta_end: Rate
    """Last beta of the linear schedule."""
    prediction_type: Literal["epsilon", "v_prediction"]
    """`epsilon` is the paper's; v-prediction: 2202.00512."""
