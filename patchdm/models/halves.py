"""The halves of the U-Net: encoder f_E on padded patches, decoder f_D on shifted ones.

Both are plain functions of maps and of the modulation of their residual blocks, which `PatchUNet`
computes. They are what torch.compile compiles and what offloading wakes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchdm.models.blocks import Attention, Block, ResBlock, group_norm, zeroed


@dataclass(frozen=True)
class Layers:
    """What the layers of both halves have in common.

    Attributes:
        in_channels: colour channels.
        fold: side of the pixel squares folded into channels.
        channels: width of each level, finest first.
        res_blocks: residual blocks per level of f_E; f_D has one more.
        attention_levels: levels with self-attention (the middle always has it).
        norm_groups: groups of every GroupNorm, at most the channels normalised.
        dropout: inside residual blocks.
    """

    in_channels: int
    fold: int
    channels: Sequence[int]
    res_blocks: int
    attention_levels: Sequence[int]
    norm_groups: int
    dropout: float

    def res(self, width_in: int, width_out: int, resample: str | None = None) -> ResBlock:
        """Return a residual block."""
        groups, dropout = self.norm_groups, self.dropout
        return ResBlock(width_in, width_out, groups=groups, dropout=dropout, resample=resample)

    def attention(self, level: int) -> Attention | None:
        """Return the attention of a level that has it."""
        width = self.channels[level]
        return Attention(width, groups=self.norm_groups) if level in self.attention_levels else None


class Encoder(nn.Module):
    """f_E: from noisy patches to their feature maps.

    Attributes:
        skips: widths of the skip connections, finest first.
    """

    def __init__(self, layers: Layers) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        self.fold, width = layers.fold, layers.channels[0]
        self.stem = nn.Conv2d(layers.in_channels * self.fold**2, width, 3, padding=1)
        self.blocks, self.skips = nn.ModuleList(), [width]
        for level, level_width in enumerate(layers.channels):
            for _ in range(layers.res_blocks):
                self.blocks.append(Block(layers.res(width, level_width), layers.attention(level)))
                width = level_width
                self.skips.append(width)
            if level < len(layers.channels) - 1:
                self.blocks.append(Block(layers.res(width, width, "down")))
                self.skips.append(width)
        attention = Attention(width, groups=layers.norm_groups)
        middle = Block(layers.res(width, width), attention), Block(layers.res(width, width))
        self.middle = nn.ModuleList(middle)

    @property
    def modulated(self) -> list[int]:
        """Channels that each residual block modulates, in order."""
        return _modulated(*self.blocks, *self.middle)

    def forward(self, patches: Tensor, factor: Tensor, summand: Tensor) -> list[Tensor]:
        """Encode patches.

        Args:
            patches: (N, in_channels, p, p).
            factor, summand: (N, sum(modulated)), by which the maps of the residual blocks, side
                by side, are modulated.

        Returns:
            Maps (N, width, s, s), every skip connection, finest first, then the bottleneck.
        """
        features = [self.stem(F.pixel_unshuffle(patches, self.fold))]
        shares = _shares([*self.blocks, *self.middle], factor, summand)
        for block in self.blocks:
            features.append(_run(self, block, features[-1], *next(shares)))
        h = features[-1]
        for block in self.middle:
            h = _run(self, block, h, *next(shares))
        return [*features, h]


class Decoder(nn.Module):
    """f_D: from feature maps, plain or collaged, to the prediction.

    Args:
        layers: as those of f_E.
        skips: widths of its skip connections, finest first.
    """

    def __init__(self, layers: Layers, skips: Sequence[int]) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        self.fold, left, width = layers.fold, list(skips), layers.channels[-1]
        self.blocks = nn.ModuleList()
        for level, level_width in reversed(list(enumerate(layers.channels))):
            for index in range(layers.res_blocks + 1):
                first = layers.res(width + left.pop(), level_width)
                is_last = level and index == layers.res_blocks
                up = layers.res(level_width, level_width, "up") if is_last else None
                self.blocks.append(Block(first, layers.attention(level), up))
                width = level_width
        self.head = nn.Sequential(
            group_norm(layers.norm_groups, width),
            nn.SiLU(),
            zeroed(nn.Conv2d(width, layers.in_channels * self.fold**2, 3, padding=1)),
        )

    @property
    def modulated(self) -> list[int]:
        """Channels that each residual block modulates, in order."""
        return _modulated(*self.blocks)

    def forward(self, features: list[Tensor], factor: Tensor, summand: Tensor) -> Tensor:
        """Decode the maps of `Encoder` to the prediction (N, in_channels, p, p)."""
        *skips, h = features
        shares = _shares([*self.blocks], factor, summand)
        for block, skip in zip(self.blocks, reversed(skips), strict=True):
            h = _run(self, block, torch.cat([h, skip], dim=1), *next(shares))
        return F.pixel_shuffle(self.head(h), self.fold)


def _modulated(*blocks: Block) -> list[int]:
    return [width for block in blocks for width in block.modulated]


def _shares(blocks: list[Block], factor: Tensor, summand: Tensor) -> Iterator[list[Tensor]]:
    """Yield factor and summand of each residual block, (N, channels, 1, 1), block by block."""
    widths = _modulated(*blocks)
    split = (values[..., None, None].split(widths, dim=1) for values in (factor, summand))
    pairs = zip(*split, strict=True)
    for block in blocks:
        yield [tensor for _ in block.modulated for tensor in next(pairs)]


def _run(half: Encoder | Decoder, block: nn.Module, *inputs: Tensor) -> Tensor:
    """Apply a block, with gradient checkpointing if it is enabled."""
    if half.gradient_checkpointing and torch.is_grad_enabled():
        checkpoint: Any = half._gradient_checkpointing_func  # noqa: SLF001 - set by diffusers
        return checkpoint(block, *inputs)
    return block(*inputs)
