"""The sources of global codes: an optimised table or a jointly trained encoder."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from patchdm.models.blocks import Attention, Block, Residual, group_norm


class Whitening(nn.Module):
    """The projection of backbone features to codes, as buffers.

    Args:
        feature_dim, code_dim: widths of both.
    """

    mean: Tensor
    projection: Tensor

    def __init__(self, feature_dim: int, code_dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(feature_dim))
        self.register_buffer("projection", torch.zeros(feature_dim, code_dim))

    def forward(self, features: Tensor) -> Tensor:
        """(B, feature_dim) -> (B, code_dim)."""
        return (features - self.mean) @ self.projection


class CodeTable(ModelMixin, ConfigMixin):
    """One code per training image, optimised with the network (paper section 3.3).

    Args:
        num_images: training images.
        code_dim: width of the codes.
        feature_dim: width of the backbone features that `start` projects; None: features have the
            width of the codes and are used unchanged (the paper's CLIP table).
        backbone: name of the network of the features, to compute those of other images.
    """

    _group_offload_block_modules = ("whitening",)

    @register_to_config
    def __init__(
        self,
        num_images: int,
        code_dim: int = 512,
        feature_dim: int | None = None,
        backbone: str | None = None,  # noqa: ARG002 - read from config
    ) -> None:
        super().__init__()
        self.codes = nn.Parameter(torch.zeros(num_images, code_dim))
        self.whitening = nn.Identity() if feature_dim is None else Whitening(feature_dim, code_dim)

    @classmethod
    def from_features(cls, features: np.ndarray, code_dim: int, backbone: str) -> Self:
        """Return a table that starts from the features (n, dim) of its images."""
        project = features.shape[1] != code_dim
        table = cls(len(features), code_dim, features.shape[1] if project else None, backbone)
        if project:
            mean, projection = whitening(features, code_dim)
            table.whitening.mean.copy_(mean)
            table.whitening.projection.copy_(projection)
        table.codes.data.copy_(table.start(torch.from_numpy(features.astype(np.float32))))
        return table

    def forward(self, images: Tensor) -> Tensor:
        """(B,) image numbers -> (B, code_dim)."""
        return F.embedding(images, self.codes)

    @apply_forward_hook
    def start(self, features: Tensor) -> Tensor:
        """Return the start of an image's code: features (B, dim) float32 -> (B, code_dim)."""
        return self.whitening(features).clone()


def whitening(features: np.ndarray, code_dim: int) -> tuple[Tensor, Tensor]:
    """Return the projection of features (n, dim) to principal components of unit variance.

    Returns:
        Mean (dim,) and projection (dim, code_dim), float32. If n images span fewer than code_dim
        components, the rest is zero.
    """
    mean = features.mean(axis=0, dtype=np.float64)
    components, scales, axes = np.linalg.svd(features - mean, full_matrices=False)
    kept = min(code_dim, int((scales > 1e-6 * scales[0]).sum()))
    # The sign of a component is arbitrary: make its largest entry positive.
    signs = np.sign(components[np.abs(components).argmax(axis=0), np.arange(len(scales))])
    projection = np.zeros((features.shape[1], code_dim))
    projection[:, :kept] = axes[:kept].T * (signs / scales)[:kept] * np.sqrt(len(features))
    return torch.from_numpy(mean).float(), torch.from_numpy(projection).float()


class SemanticEncoder(ModelMixin, ConfigMixin):
    """Half a U-Net from the whole image to one code (Diffusion Autoencoders, table 1).

    Args:
        in_channels: colour channels.
        channels: width of each level, finest first.
        res_blocks: residual blocks per level.
        attention_levels: levels with self-attention (the middle always has it).
        norm_groups: groups of every GroupNorm, at most the channels normalised.
        code_dim: width of the code.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        channels: tuple[int, ...] = (64, 128, 256, 512, 512),
        res_blocks: int = 2,
        attention_levels: tuple[int, ...] = (4,),
        norm_groups: int = 32,
        code_dim: int = 512,
    ) -> None:
        super().__init__()

        def res(width_in: int, width_out: int, resample: str | None = None) -> Residual:
            return Residual(width_in, width_out, groups=norm_groups, resample=resample)

        width = channels[0]
        self.stem = nn.Conv2d(in_channels, width, 3, padding=1)
        self.blocks = nn.ModuleList()
        for level, level_width in enumerate(channels):
            for _ in range(res_blocks):
                attended = level in attention_levels
                attention = Attention(level_width, groups=norm_groups) if attended else None
                self.blocks.append(Block(res(width, level_width), attention))
                width = level_width
            if level < len(channels) - 1:
                self.blocks.append(Block(res(width, width, "down")))
        self.blocks.append(Block(res(width, width), Attention(width, groups=norm_groups)))
        self.blocks.append(Block(res(width, width)))
        self.head = nn.Sequential(
            group_norm(norm_groups, width),
            nn.SiLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(width, code_dim, 1),
            nn.Flatten(),
        )

    def forward(self, x0: Tensor) -> Tensor:
        """Images (B, in_channels, H, W) in [-1, 1] -> codes (B, code_dim)."""
        h = self.stem(x0.to(self.dtype))
        for block in self.blocks:
            h = block(h)
        return self.head(h)
