"""The latent denoiser: an MLP over global codes (Diffusion Autoencoders, 2111.15640, table 2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from patchdm.models.blocks import mlp, sinusoid


class LatentLayer(nn.Module):
    """Linear, times (1 + scale(time)), LayerNorm, SiLU."""

    def __init__(self, in_features: int, out_features: int, embed_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)
        self.scale = nn.Linear(embed_dim, out_features)
        self.norm = nn.LayerNorm(out_features)

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        """(B, in_features), (B, embed_dim) -> (B, out_features)."""
        return F.silu(self.norm(self.linear(h) * (1 + self.scale(F.silu(emb)))))


class Scale(nn.Module):
    """Mean and standard deviation per dimension of the training codes, as buffers (code_dim,)."""

    mean: Tensor
    std: Tensor

    def __init__(self, code_dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(code_dim))
        self.register_buffer("std", torch.ones(code_dim))

    def forward(self, z: Tensor) -> Tensor:
        """Return codes of z-normalised ones, (B, code_dim) both."""
        return z * self.std + self.mean


class LatentMLP(ModelMixin, ConfigMixin):
    """Predict eps of a z-normalised global code; the input also enters every layer but the first.

    It keeps the scale of the training codes, so that `denormalize` turns a sampled z into a code.
    """

    _group_offload_block_modules = ("scale",)

    @register_to_config
    def __init__(
        self, code_dim: int = 512, layers: int = 10, hidden: int = 2048, time_channels: int = 64
    ) -> None:
        super().__init__()
        self.time_embed = mlp(time_channels, code_dim)
        widths = [code_dim, *[hidden + code_dim] * (layers - 1)]
        self.trunk = nn.ModuleList([LatentLayer(width, hidden, code_dim) for width in widths[:-1]])
        self.head = nn.Linear(widths[-1], code_dim)
        self.scale = Scale(code_dim)

    def forward(self, z_t: Tensor, t: Tensor) -> Tensor:
        """Predict eps: (B, code_dim) z-normalised noisy codes, (B,) steps -> (B, code_dim)."""
        emb = self.time_embed(sinusoid(t, self.config.time_channels).to(self.dtype))
        h = z_t = z_t.to(self.dtype)
        for index, layer in enumerate(self.trunk):
            h = layer(h if index == 0 else torch.cat([h, z_t], dim=1), emb)
        return self.head(torch.cat([h, z_t], dim=1))

    def fit_normalization(self, codes: Tensor) -> None:
        """Set mean and deviation from codes (n, code_dim); a constant dimension keeps scale 1."""
        std = codes.std(dim=0, correction=0)
        self.scale.mean.copy_(codes.mean(dim=0))
        self.scale.std.copy_(torch.where(std > 0, std, torch.ones_like(std)))

    def normalize(self, codes: Tensor) -> Tensor:
        """Return codes (B, code_dim) with zero mean and unit deviation per dimension."""
        return (codes - self.scale.mean) / self.scale.std

    @apply_forward_hook
    def denormalize(self, z: Tensor) -> Tensor:
        """Inverse of `normalize`."""
        return self.scale(z)
