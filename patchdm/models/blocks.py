"""Building blocks of the U-Net and the semantic encoder (ADM, 2105.05233)."""

from __future__ import annotations

import math
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MAX_PERIOD = 10_000
_Module = TypeVar("_Module", bound=nn.Module)


def sinusoid(values: Tensor, channels: int) -> Tensor:
    """Embed numbers as [cos, sin] waves: (N,) -> (N, channels) float32, periods up to 10000."""
    half = channels // 2
    steps = torch.arange(half, device=values.device, dtype=torch.float32)
    angles = values.float()[:, None] * torch.exp(-math.log(MAX_PERIOD) / half * steps)
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def mlp(in_features: int, out_features: int) -> nn.Sequential:
    """Linear -> SiLU -> Linear, the form of every embedding here."""
    return nn.Sequential(
        nn.Linear(in_features, out_features), nn.SiLU(), nn.Linear(out_features, out_features)
    )


class GroupNorm(nn.GroupNorm):
    """GroupNorm that computes in float32 for every input type, like ADM's.

    It is also faster for bfloat16 maps in channels-last layout on a CPU: 3x, measured.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, ...) -> the same shape and type."""
        weight, bias, wide = self.weight.float(), self.bias.float(), x.float()
        if torch.is_grad_enabled() or x.device.type == "cpu":
            return F.group_norm(wide, self.num_groups, weight, bias, self.eps).to(x.dtype)
        # CUDA's kernel copies channels-last maps into another layout, which cuDNN copies back.
        n, channels = x.shape[:2]
        size = channels // self.num_groups
        groups = wide.movedim(1, -1).reshape(n, -1, self.num_groups, size)
        var, mean = torch.var_mean(groups, dim=(1, 3), correction=0)
        scale = (var + self.eps).rsqrt().repeat_interleave(size, dim=1) * weight
        shift = bias - mean.repeat_interleave(size, dim=1) * scale
        shift, scale = (v.view(n, channels, *[1] * (x.ndim - 2)) for v in (shift, scale))
        return torch.addcmul(shift, wide, scale).to(x.dtype)


def group_norm(groups: int, channels: int) -> GroupNorm:
    """Return a GroupNorm of at most `channels` groups."""
    return GroupNorm(min(groups, channels), channels)


def silu(x: Tensor) -> Tensor:
    """SiLU of a tensor that nothing else uses: in place, unless autograd keeps it."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


def resampler(direction: str | None) -> nn.Module:
    """Return the resampling of a block: None, "down" (2x2 mean) or "up" (nearest)."""
    if direction == "down":
        return nn.AvgPool2d(2)
    return nn.Upsample(scale_factor=2) if direction == "up" else nn.Identity()


def shortcut(in_channels: int, out_channels: int) -> nn.Module:
    """Return the skip connection of a block: a 1x1 convolution if the width changes."""
    if in_channels == out_channels:
        return nn.Identity()
    return nn.Conv2d(in_channels, out_channels, 1)


def zeroed(module: _Module) -> _Module:
    """Zero-initialise, so that a residual branch starts as the identity."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


class Residual(nn.Module):
    """Norm, SiLU, (resample), conv, plus a skip connection: the encoder's one-conv block.

    `resample` is None, "down" (2x2 mean) or "up" (nearest), applied to both branches.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, groups: int, resample: str | None = None
    ) -> None:
        super().__init__()
        self.norm_in = group_norm(groups, in_channels)
        self.conv_in = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.skip = shortcut(in_channels, out_channels)
        self.resample = resampler(resample)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, s, s) -> (N, out_channels, s', s')."""
        h = self.conv_in(self.resample(silu(self.norm_in(x))))
        return h.add_(self.skip(self.resample(x)))


class ResBlock(nn.Module):
    """ADM residual block: norm, SiLU, (resample), conv, norm, modulation, SiLU, dropout, conv.

    The modulation by time, position and code turns maps h into factor * h + summand.
    `resample` as for Residual.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        groups: int,
        dropout: float,
        resample: str | None = None,
    ) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.norm_in = group_norm(groups, in_channels)
        self.conv_in = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm_out = group_norm(groups, out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv_out = zeroed(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.skip = shortcut(in_channels, out_channels)
        self.resample = resampler(resample)

    def forward(self, x: Tensor, factor: Tensor, summand: Tensor) -> Tensor:
        """(N, in_channels, s, s) -> (N, out_channels, s', s').

        factor and summand, (N, out_channels, 1, 1), from `PatchUNet`.
        """
        h = self.norm_out(self.conv_in(self.resample(silu(self.norm_in(x)))))
        h = silu(torch.addcmul(summand, h, factor))
        return self.conv_out(self.dropout(h)).add_(self.skip(self.resample(x)))


class Attention(nn.Module):
    """One-head self-attention over the pixels of a feature map, as a residual branch."""

    def __init__(self, channels: int, *, groups: int) -> None:
        super().__init__()
        self.norm = group_norm(groups, channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = zeroed(nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, h, w) -> the same shape."""
        # PyTorch multiplies strided maps differently by trainable and by frozen weights.
        pixels = self.norm(x).flatten(2).transpose(1, 2).contiguous()  # (N, h*w, channels)
        q, k, v = self.qkv(pixels)[:, None].chunk(3, dim=-1)  # one head
        mixed = self.out(F.scaled_dot_product_attention(q, k, v)[:, 0])
        return x + mixed.transpose(1, 2).reshape(x.shape)


class Block(nn.Module):
    """Residual block, then attention, then a resampling residual block; the last two optional."""

    def __init__(
        self,
        res: nn.Module,
        attention: Attention | None = None,
        resample: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.res = res
        self.attention = attention
        self.resample = resample
        self.modulated = tuple(
            part.out_channels for part in (res, resample) if isinstance(part, ResBlock)
        )
        """Channels of the maps that each of its ResBlocks modulates."""

    def forward(self, x: Tensor, *modulation: Tensor) -> Tensor:
        """Apply the layers in turn; `modulation`: factor and summand of each ResBlock, if any."""
        x = self.res(x, *modulation[:2])
        if self.attention is not None:
            x = self.attention(x)
        if self.resample is not None:
            x = self.resample(x, *modulation[2:])
        return x
