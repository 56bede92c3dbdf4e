"""The straightforward Patch-DM: the baseline that the library's speed is measured against.

Written as the paper reads, as one would write it first, and apart from the library: the whole
batch and canvas go through the network at once, every patch carries its own time, position and
code through every MLP at every step, memory is laid out as PyTorch does by default, and the
optimiser and the weight average go through the parameters one by one. Every residual block has
projections of its own, like the authors. With the weights of a `PatchUNet`, predictions are equal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler
from torch import Tensor, nn


def mlp(width_in: int, width_out: int) -> nn.Sequential:
    """Linear, SiLU, Linear."""
    return nn.Sequential(nn.Linear(width_in, width_out), nn.SiLU(), nn.Linear(width_out, width_out))


def waves(values: Tensor, channels: int) -> Tensor:
    """Sinusoidal embedding: (N,) -> (N, channels)."""
    frequencies = torch.exp(-math.log(10_000) * torch.arange(channels // 2) / (channels // 2))
    angles = values[:, None] * frequencies
    return torch.cat([torch.cos(angles), torch.sin(angles)], dim=1)


class Modulation(nn.Module):
    """((1 + scale) h + shift) (1 + cond_scale)."""

    def __init__(self, channels: int, embed_dim: int) -> None:
        super().__init__()
        self.embed = nn.Linear(embed_dim, 2 * channels)
        self.cond = nn.Linear(embed_dim, channels)

    def forward(self, h: Tensor, emb: Tensor, cond: Tensor) -> Tensor:
        """(N, channels, s, s), (N, embed_dim), (N, embed_dim) -> like h."""
        scale, shift = self.embed(F.silu(emb))[:, :, None, None].chunk(2, dim=1)
        cond_scale = self.cond(F.silu(cond))[:, :, None, None]
        return (h * (1 + scale) + shift) * (1 + cond_scale)


class ResBlock(nn.Module):
    """ADM's residual block; `resample` is None, "down" or "up"."""

    def __init__(
        self,
        width_in: int,
        width_out: int,
        groups: int,
        embed_dim: int,
        dropout: float,
        resample: str | None = None,
    ) -> None:
        super().__init__()
        self.norm_in = nn.GroupNorm(min(groups, width_in), width_in)
        self.conv_in = nn.Conv2d(width_in, width_out, 3, padding=1)
        self.modulation = Modulation(width_out, embed_dim)
        self.norm_out = nn.GroupNorm(min(groups, width_out), width_out)
        self.dropout = nn.Dropout(dropout)
        self.conv_out = nn.Conv2d(width_out, width_out, 3, padding=1)
        self.skip = nn.Conv2d(width_in, width_out, 1) if width_in != width_out else nn.Identity()
        self.direction = resample

    def forward(self, x: Tensor, emb: Tensor, cond: Tensor) -> Tensor:
        """(N, width_in, s, s) -> (N, width_out, s', s')."""
        h = F.silu(self.norm_in(x))
        if self.direction == "down":
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        elif self.direction == "up":
            h, x = F.interpolate(h, scale_factor=2), F.interpolate(x, scale_factor=2)
        h = self.conv_in(h)
        h = F.silu(self.modulation(self.norm_out(h), emb, cond))
        return self.skip(x) + self.conv_out(self.dropout(h))


class Attention(nn.Module):
    """Self-attention of one head over pixels."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(min(groups, channels), channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, s, s) -> the same."""
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(tokens).chunk(3, dim=2)
        mixed = self.out(F.scaled_dot_product_attention(q, k, v))
        return x + mixed.transpose(1, 2).reshape(x.shape)


class Block(nn.Module):
    """A residual block, then maybe attention, then maybe a resampling residual block."""

    def __init__(
        self, res: nn.Module, attention: nn.Module | None = None, resample: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.res, self.attention, self.resample = res, attention, resample

    def forward(self, x: Tensor, emb: Tensor, cond: Tensor) -> Tensor:
        """(N, width_in, s, s) -> (N, width_out, s', s')."""
        x = self.res(x, emb, cond)
        if self.attention is not None:
            x = self.attention(x)
        if self.resample is not None:
            x = self.resample(x, emb, cond)
        return x


class UNet(nn.Module):
    """The network of the paper; the arguments are those of `PatchUNet`, others are ignored."""

    def __init__(
        self,
        *,
        patch_size: int,
        in_channels: int,
        pixel_fold: int,
        channels: Sequence[int],
        res_blocks: int,
        attention_levels: Sequence[int],
        norm_groups: int,
        dropout: float,
        embed_dim: int,
        time_channels: int,
        position_channels: int,
        cond_dim: int,
        **_: object,
    ) -> None:
        super().__init__()
        self.patch_size, self.fold = patch_size, pixel_fold
        self.time_channels, self.position_channels = time_channels, position_channels
        self.time_embed = mlp(time_channels, embed_dim // 2)
        self.position_embed = mlp(2 * position_channels, embed_dim // 2)
        self.cond_embed = mlp(cond_dim, embed_dim) if cond_dim != embed_dim else nn.Identity()

        def res(width_in: int, width_out: int, resample: str | None = None) -> ResBlock:
            return ResBlock(width_in, width_out, norm_groups, embed_dim, dropout, resample)

        def attention(level: int) -> Attention | None:
            return Attention(channels[level], norm_groups) if level in attention_levels else None

        levels = len(channels)
        width = channels[0]
        self.stem = nn.Conv2d(in_channels * pixel_fold**2, width, 3, padding=1)
        self.encoder = nn.ModuleList()
        widths = [width]
        for level in range(levels):
            for _ in range(res_blocks):
                self.encoder.append(Block(res(width, channels[level]), attention(level)))
                width = channels[level]
                widths.append(width)
            if level + 1 < levels:
                self.encoder.append(Block(res(width, width, "down")))
                widths.append(width)
        self.middle = nn.ModuleList(
            [Block(res(width, width), Attention(width, norm_groups)), Block(res(width, width))]
        )
        self.decoder = nn.ModuleList()
        for level in reversed(range(levels)):
            for i in range(res_blocks + 1):
                out = channels[level]
                up = res(out, out, "up") if level > 0 and i == res_blocks else None
                self.decoder.append(Block(res(width + widths.pop(), out), attention(level), up))
                width = out
        self.head = nn.Sequential(
            nn.GroupNorm(min(norm_groups, width), width),
            nn.SiLU(),
            nn.Conv2d(width, in_channels * pixel_fold**2, 3, padding=1),
        )

    def embed(self, t: Tensor, places: Tensor, cond: Tensor) -> tuple[Tensor, Tensor]:
        """Embed what each patch is told: (N,), (N, 2), (N, cond_dim) -> 2 x (N, embed_dim)."""
        time = self.time_embed(waves(t, self.time_channels))
        axes = [waves(places[:, axis], self.position_channels) for axis in (0, 1)]
        place = self.position_embed(torch.cat(axes, dim=1))
        return torch.cat([time, place], dim=1), self.cond_embed(cond)

    def encode(self, patches: Tensor, t: Tensor, places: Tensor, cond: Tensor) -> list[Tensor]:
        """f_E: (N, C, p, p) -> every skip connection and the bottleneck."""
        emb, cond = self.embed(t, places, cond)
        features = [self.stem(F.pixel_unshuffle(patches, self.fold))]
        for block in self.encoder:
            features.append(block(features[-1], emb, cond))
        h = features[-1]
        for block in self.middle:
            h = block(h, emb, cond)
        return [*features, h]

    def decode(self, features: list[Tensor], t: Tensor, places: Tensor, cond: Tensor) -> Tensor:
        """f_D: feature maps -> (N, C, p, p)."""
        emb, cond = self.embed(t, places, cond)
        *skips, h = features
        for block in self.decoder:
            h = block(torch.cat([h, skips.pop()], dim=1), emb, cond)
        return F.pixel_shuffle(self.head(h), self.fold)


def split(image: Tensor, side: int) -> Tensor:
    """(B, C, R * side, Q * side) -> (B * R * Q, C, side, side)."""
    b, c, height, width = image.shape
    tiles = image.reshape(b, c, height // side, side, width // side, side)
    return tiles.permute(0, 2, 4, 1, 3, 5).reshape(-1, c, side, side)


def merge(patches: Tensor, rows: int, cols: int) -> Tensor:
    """(B * rows * cols, C, side, side) -> (B, C, rows * side, cols * side)."""
    _, c, side, _ = patches.shape
    tiles = patches.reshape(-1, rows, cols, c, side, side)
    return tiles.permute(0, 3, 1, 4, 2, 5).reshape(-1, c, rows * side, cols * side)


def collage(features: list[Tensor], rows: int, cols: int) -> list[Tensor]:
    """Cut the maps of (rows + 1) x (cols + 1) patches again, half a patch further."""
    shifted = []
    for maps in features:
        half = maps.shape[-1] // 2
        plane = merge(maps, rows + 1, cols + 1)[:, :, half:-half, half:-half]
        shifted.append(split(plane, 2 * half))
    return shifted


def places(rows: int, cols: int, first: float) -> Tensor:
    """Positions (rows * cols, 2) of patches, counted from `first`."""
    return torch.cartesian_prod(torch.arange(rows) + first, torch.arange(cols) + first)


def predict_eps(net: UNet, x_t: Tensor, t: Tensor, cond: Tensor) -> Tensor:
    """Predict a canvas (B, C, H, W) at steps t (B,) with codes (B, cond_dim)."""
    p = net.patch_size
    batch, rows, cols = len(x_t), x_t.shape[2] // p, x_t.shape[3] // p
    padded, shifted = (rows + 1) * (cols + 1), rows * cols
    features = net.encode(
        split(F.pad(x_t, (p // 2,) * 4), p),
        t.repeat_interleave(padded),
        places(rows + 1, cols + 1, 0.0).repeat(batch, 1),
        cond.repeat_interleave(padded, dim=0),
    )
    patches = net.decode(
        collage(features, rows, cols),
        t.repeat_interleave(shifted),
        places(rows, cols, 0.5).repeat(batch, 1),
        cond.repeat_interleave(shifted, dim=0),
    )
    return merge(patches, rows, cols)


@torch.no_grad()
def sample(
    net: UNet, scheduler: DDIMScheduler, x_T: Tensor, cond: Tensor, num_steps: int
) -> Tensor:
    """DDIM from noise (B, C, H, W) to images, x0 clipped and eps recomputed from it."""
    scheduler.set_timesteps(num_steps)
    x_t = x_T
    for t in scheduler.timesteps:
        eps = predict_eps(net, x_t, t.repeat(len(x_t)), cond)
        x_t = scheduler.step(eps, t, x_t, use_clipped_model_output=True).prev_sample
    return x_t


def window_loss(
    net: UNet,
    scheduler: DDIMScheduler,
    x0: Tensor,
    inside: Tensor,
    corner: Tensor,
    t: Tensor,
    cond: Tensor,
    noise: Tensor,
) -> Tensor:
    """Return the loss of windows of 2 x 2 padded patches: of the shifted patch and the four plain.

    Args:
        net: the network.
        scheduler: noise schedule and prediction type.
        x0: (B, C, 2p, 2p) windows in [-1, 1].
        inside: (B, 1, 2p, 2p), 1 on the image, 0 on the padding.
        corner: (B, 2) position of each window's first patch.
        t: (B,) time steps.
        cond: (B, cond_dim) codes.
        noise: (B, C, 2p, 2p).
    """
    p, half = net.patch_size, net.patch_size // 2
    x_t = scheduler.add_noise(x0, noise, t) * inside
    target = noise
    if scheduler.config.prediction_type == "v_prediction":
        target = scheduler.get_velocity(x0, noise, t)
    four = (corner[:, None] + places(2, 2, 0.0)).reshape(-1, 2)
    t4, cond4 = t.repeat_interleave(4), cond.repeat_interleave(4, dim=0)
    features = net.encode(split(x_t, p), t4, four, cond4)
    plain = merge(net.decode(features, t4, four, cond4), 2, 2)
    shifted = net.decode(collage(features, 1, 1), t, corner + 0.5, cond)
    plain_error = ((plain - target) * inside).square().mean()
    centre = (..., slice(half, half + p), slice(half, half + p))
    return plain_error + ((shifted - target[centre]) * inside[centre]).square().mean()


def train_step(
    net: UNet,
    codes: nn.Embedding,
    averages: list[Tensor],
    optimizer: torch.optim.Optimizer,
    scheduler: DDIMScheduler,
    batch: dict[str, Tensor],
    *,
    ema_decay: float,
    grad_clip: float,
) -> float:
    """Take one step on network and codes, and move their weight averages; return the loss.

    Args:
        net: the network, in training mode.
        codes: code table of the training images.
        averages: copies of the parameters of both, in their order.
        optimizer: over the parameters of both.
        scheduler: noise schedule and prediction type.
        batch: x0, inside, corner, t and noise of `window_loss`; `image`, (B,) rows of the table.
        ema_decay: of the averages.
        grad_clip: greatest norm of the gradient.
    """
    windows = {name: value for name, value in batch.items() if name != "image"}
    loss = window_loss(net, scheduler, cond=codes(batch["image"]), **windows)
    parameters = [*net.parameters(), *codes.parameters()]
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(parameters, grad_clip)
    optimizer.step()
    with torch.no_grad():
        for average, parameter in zip(averages, parameters, strict=True):
            average.mul_(ema_decay).add_(parameter, alpha=1 - ema_decay)
    return loss.item()
