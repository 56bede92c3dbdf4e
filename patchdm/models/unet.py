"""PatchUNet: the ADM U-Net on patches, cut into encoder f_E and decoder f_D (paper section 3).

The encoder sees single padded patches; feature collage cuts its maps again half a patch further;
the decoder sees the shifted patches. Only the collage crosses patch borders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.unets.unet_2d import UNet2DOutput
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from patchdm.grid import PatchGrid, collage, merge, pad_and_split, positions
from patchdm.models.blocks import (
    Attention,
    Block,
    Modulation,
    ResBlock,
    group_norm,
    mlp,
    sinusoid,
    zeroed,
)

_ENCODER, _DECODER = 0, 1
_Make = Callable[..., Any]  # of a layer, from its widths
_UNKNOWN_POSITION = torch.full((1, 2), torch.nan)


class Projected(Tensor):
    """A condition with its projections for the residual blocks of a network.

    `PatchUNet.project_time`, `project_positions` and `project_cond` return it; for all other code
    it is the plain tensor.

    Attributes:
        halves: projections for f_E and for f_D, all residual blocks side by side.
    """

    halves: tuple[Tensor, Tensor]
    # Results of operations are plain tensors.
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]  # noqa: SLF001

    @classmethod
    def of(cls, condition: Tensor, project: Callable[[int], Tensor]) -> Projected:
        """Return the condition with its projections for both halves."""
        projected = condition.detach().as_subclass(cls)
        projected.halves = (project(_ENCODER), project(_DECODER))
        return projected


class PatchUNet(ModelMixin, ConfigMixin):
    """Denoise patches of an image, seamlessly. The defaults are the paper's network at p = 64.

    Args:
        patch_size: side p of a patch in pixels, a multiple of pixel_fold * 2 ** len(channels).
        in_channels: colour channels of patch and prediction.
        pixel_fold: side of the pixel squares folded into channels before the first convolution
            and unfolded after the last; 1 is the paper's, 2 makes small networks faster.
        channels: width of each level, finest first; each level halves the side.
        res_blocks: residual blocks per encoder level; the decoder has one more.
        attention_levels: levels with self-attention (the middle always has it).
        norm_groups: groups of every GroupNorm, at most the channels normalised.
        dropout: dropout inside residual blocks.
        embed_dim: width of the joint embedding of time and position, half each.
        time_channels: waves of the time sinusoid.
        position_channels: waves of the position sinusoid, per axis.
        cond_dim: width of the global code; if it is not embed_dim, an MLP comes first.
        sample_size: (height, width) of the training images, if known; it denoises any size.
        use_position: False is the ablation without patch positions.
        collage: "feature" is the paper's; "pixel-fixed", "pixel-random" and "none" are its
            ablations. The network is the same; the loss and the sampler read it here.
        unconditional: whether it was also trained without code and position, as guidance requires;
            None: not known.
    """

    _supports_gradient_checkpointing = True
    # It acts at `forward`, which samplers do not call; `encode` and `decode` trigger CPU offload.
    _supports_group_offloading = False

    @register_to_config
    def __init__(
        self,
        patch_size: int = 64,
        in_channels: int = 3,
        pixel_fold: int = 1,
        channels: tuple[int, ...] = (64, 128, 256, 512),
        res_blocks: int = 2,
        attention_levels: tuple[int, ...] = (2,),
        norm_groups: int = 32,
        dropout: float = 0.1,
        embed_dim: int = 512,
        time_channels: int = 64,
        position_channels: int = 64,
        cond_dim: int = 512,
        sample_size: tuple[int, int] | None = None,  # noqa: ARG002 - for the sampler
        use_position: bool = True,  # noqa: ARG002 - read from config
        collage: str = "feature",  # noqa: ARG002 - for loss and sampler
        unconditional: bool | None = None,  # noqa: ARG002 - for the sampler
    ) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        unit = pixel_fold * 2 ** len(channels)
        if patch_size % unit:
            raise ValueError(
                f"patch_size is {patch_size}, expected multiples of {unit} with "
                f"{len(channels)} levels: the collage halves the coarsest maps"
            )
        self.time_embed = mlp(time_channels, embed_dim // 2)
        self.position_embed = mlp(2 * position_channels, embed_dim // 2)
        self.cond_embed = nn.Identity() if cond_dim == embed_dim else mlp(cond_dim, embed_dim)

        res = partial(
            ResBlock, groups=norm_groups, dropout=dropout, embed_dim=embed_dim, cond_dim=embed_dim
        )

        def attention(width: int, level: int | None = None) -> Attention | None:
            at_level = level is None or level in attention_levels
            return Attention(width, groups=norm_groups) if at_level else None

        width, deepest = channels[0], channels[-1]
        folded = in_channels * pixel_fold**2
        self.stem = nn.Conv2d(folded, width, 3, padding=1)
        self.encoder, skips = _encoder(channels, res_blocks, res, attention)
        self.middle = nn.ModuleList(
            [Block(res(deepest, deepest), attention(deepest)), Block(res(deepest, deepest))]
        )
        self.decoder = _decoder(channels, res_blocks, res, attention, skips)
        self.head = nn.Sequential(
            group_norm(norm_groups, width),
            nn.SiLU(),
            zeroed(nn.Conv2d(width, folded, 3, padding=1)),
        )
        # The projections of f_E and of f_D, in the order of their blocks.
        self._modulations = (
            _modulations(*self.encoder, *self.middle),
            _modulations(*self.decoder),
        )

    @apply_forward_hook
    def encode(
        self,
        patches: Tensor,
        t: Tensor,
        positions: Tensor | None,
        cond: Tensor | None,
    ) -> list[Tensor]:
        """f_E: the feature maps of padded patches, every skip connection and the bottleneck.

        Args:
            patches: (N, in_channels, p, p) noisy patches, image by image in reading order.
            t: (B,) time steps, N a multiple of B.
            positions: (P, 2) row and column of each patch of an image, N a multiple of P, or of
                all N patches; a NaN row or None means unknown (its sinusoid is zero).
            cond: (B, cond_dim) global codes; None means unknown (zero).

        For many calls with the same t, positions or cond, pass the result of `project_time`,
        `project_positions` or `project_cond`.

        Returns:
            Maps (N, width, s, s), finest first, the bottleneck last.
        """
        dtype = self.dtype  # looked up once: diffusers goes through all modules for it
        modulation = self._modulate(_ENCODER, len(patches), t, positions, cond, dtype)
        h = self.stem(F.pixel_unshuffle(patches.to(dtype), self.config.pixel_fold))
        features = [h]
        for block in self.encoder:
            h = self._run(block, h, *next(modulation))
            features.append(h)
        for block in self.middle:
            h = self._run(block, h, *next(modulation))
        return [*features, h]

    @apply_forward_hook
    def decode(
        self,
        features: list[Tensor],
        t: Tensor,
        positions: Tensor | None,
        cond: Tensor | None,
    ) -> Tensor:
        """f_D: the prediction (N, in_channels, p, p) from feature maps, plain or collaged.

        Arguments as for `encode`; positions are those of the decoded patches.
        """
        *skips, h = features
        modulation = self._modulate(_DECODER, len(h), t, positions, cond, self.dtype)
        for block in self.decoder:
            h = self._run(block, torch.cat([h, skips.pop()], dim=1), *next(modulation))
        return F.pixel_shuffle(self.head(h), self.config.pixel_fold)

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        cond: Tensor | None = None,
        return_dict: bool = True,
    ) -> UNet2DOutput | tuple[Tensor]:
        """Predict a whole canvas, like the U-Nets of diffusers.

        Args:
            sample: (B, in_channels, H, W) noisy images, sides multiples of the patch size.
            timestep: one time step, or (B,).
            cond: (B, cond_dim) global codes or None.
            return_dict: False gives a plain tuple.

        Returns:
            The prediction as `sample`, (B, in_channels, H, W).
        """
        height, width = sample.shape[-2:]
        grid = PatchGrid.of(height, width, self.config.patch_size)
        rows, cols = grid.rows, grid.cols
        t = torch.as_tensor(timestep, device=sample.device).expand(len(sample))
        plain = positions(rows, cols, shifted=False, device=sample.device)
        shifted = positions(rows, cols, shifted=True, device=sample.device)
        features = self.encode(pad_and_split(sample, grid.patch_size), t, plain, cond)
        features = [collage(z, rows, cols) for z in features]
        eps = merge(self.decode(features, t, shifted, cond), rows, cols)
        return UNet2DOutput(sample=eps) if return_dict else (eps,)

    @apply_forward_hook
    def project_time(self, t: Tensor) -> Projected:
        """Project time steps (B,) once for many calls."""
        dtype = self.dtype
        return Projected.of(t, lambda half: self._time(half, t, dtype))

    @apply_forward_hook
    def project_positions(self, positions: Tensor | None) -> Projected:
        """Project positions (P, 2) once for many calls; None becomes one NaN row."""
        dtype, known = self.dtype, _UNKNOWN_POSITION if positions is None else positions
        return Projected.of(known, lambda half: self._positions(half, known, dtype))

    @apply_forward_hook
    def project_cond(self, cond: Tensor | None) -> Projected:
        """Project global codes (B, cond_dim) once for many calls; None becomes one row of zeros."""
        dtype = self.dtype
        codes = torch.zeros(1, self.config.cond_dim) if cond is None else cond
        return Projected.of(codes, lambda half: self._cond(half, codes, dtype))

    def _run(self, block: nn.Module, *inputs: Tensor) -> Tensor:
        """Apply a block, with gradient checkpointing if it is enabled."""
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return self._gradient_checkpointing_func(block, *inputs)
        return block(*inputs)

    def _modulate(
        self,
        half: int,
        n: int,
        t: Tensor,
        positions: Tensor | None,
        cond: Tensor | None,
        dtype: torch.dtype,
    ) -> Iterator[list[Tensor]]:
        """Yield factor and summand of each residual block, (n, channels, 1, 1), block by block."""
        projections = ((t, self._time), (positions, self._positions), (cond, self._cond))
        time, position, code = (
            given.halves[half] if isinstance(given, Projected) else project(half, given, dtype)  # type: ignore[arg-type]
            for given, project in projections
        )
        code = _per_image(code, n)
        scale, shift = (_per_image(time, n) + position.repeat(n // len(position), 1, 1)).unbind(1)
        widths = [m.cond.out_features for m in self._flat(half)]
        factors = ((1 + scale) * code)[..., None, None].split(widths, dim=1)
        summands = (shift * code)[..., None, None].split(widths, dim=1)
        pairs = zip(factors, summands, strict=True)
        for block in self._modulations[half]:
            yield [tensor for _ in block for tensor in next(pairs)]

    def _flat(self, half: int) -> list[Modulation]:
        return [modulation for block in self._modulations[half] for modulation in block]

    def _time(self, half: int, t: Tensor, dtype: torch.dtype) -> Tensor:
        """(B,) -> (B, 2, width), the width of all residual blocks together."""
        t = t.to(self.stem.weight.device)
        emb = F.silu(self.time_embed(sinusoid(t, self.config.time_channels).to(dtype)))
        return torch.cat([m.time(emb) for m in self._flat(half)], dim=2)

    def _positions(self, half: int, positions: Tensor | None, dtype: torch.dtype) -> Tensor:
        """(P, 2) or None -> (P or 1, 2, width)."""
        if positions is None or not self.config.use_position:
            positions = _UNKNOWN_POSITION
        positions = positions.to(self.stem.weight.device)
        waves = [sinusoid(axis, self.config.position_channels) for axis in positions.unbind(1)]
        # Dropped before the MLP, whose biases stay: "unknown" is a separate position.
        known = torch.cat(waves, dim=1).nan_to_num(0.0)
        emb = F.silu(self.position_embed(known.to(dtype)))
        return torch.cat([m.position(emb) for m in self._flat(half)], dim=2)

    def _cond(self, half: int, cond: Tensor | None, dtype: torch.dtype) -> Tensor:
        """(B, cond_dim) or None -> (B or 1, width)."""
        if cond is None:
            cond = torch.zeros(1, self.config.cond_dim)
        emb = F.silu(self.cond_embed(cond.to(self.stem.weight.device, dtype)))
        return torch.cat([m.code(emb) for m in self._flat(half)], dim=1)


def _encoder(
    channels: Sequence[int], res_blocks: int, res: _Make, attention: _Make
) -> tuple[nn.ModuleList, list[int]]:
    """Return the blocks of f_E and the widths of the skip connections, finest first."""
    blocks, width, skips = nn.ModuleList(), channels[0], [channels[0]]
    for level, level_width in enumerate(channels):
        for _ in range(res_blocks):
            blocks.append(Block(res(width, level_width), attention(level_width, level)))
            width = level_width
            skips.append(width)
        if level < len(channels) - 1:
            blocks.append(Block(res(width, width, resample="down")))
            skips.append(width)
    return blocks, skips


def _decoder(
    channels: Sequence[int], res_blocks: int, res: _Make, attention: _Make, skips: list[int]
) -> nn.ModuleList:
    """Return the blocks of f_D, each of which takes a skip connection."""
    blocks, width, left = nn.ModuleList(), channels[-1], list(skips)
    for level, level_width in reversed(list(enumerate(channels))):
        for index in range(res_blocks + 1):
            first = res(width + left.pop(), level_width)
            mixing = attention(level_width, level)
            is_last = level and index == res_blocks
            up = res(level_width, level_width, resample="up") if is_last else None
            blocks.append(Block(first, mixing, up))
            width = level_width
    return blocks


def _modulations(*blocks: Block) -> tuple[tuple[Modulation, ...], ...]:
    """Return the modulations of each block, in the order in which it applies them."""
    parts = [(block.res, block.resample) for block in blocks]
    return tuple(
        tuple(part.modulation for part in pair if isinstance(part, ResBlock)) for pair in parts
    )


def _per_image(values: Tensor, n: int) -> Tensor:
    """Repeat a value per image for each of its patches: (B, ...) -> (n, ...)."""
    return values.repeat_interleave(n // len(values), dim=0)
