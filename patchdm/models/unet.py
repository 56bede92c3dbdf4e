"""PatchUNet: the ADM U-Net on patches, cut into encoder f_E and decoder f_D (paper section 3).

The encoder sees single padded patches; feature collage cuts its maps again half a patch further;
the decoder sees the shifted patches. Only the collage crosses patch borders.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.unets.unet_2d import UNet2DOutput
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from patchdm.grid import PatchGrid, collage, merge, pad_and_split, positions
from patchdm.models.blocks import mlp, sinusoid
from patchdm.models.halves import Decoder, Encoder, Layers

_ENCODER, _DECODER = 0, 1


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
    _group_offload_block_modules = ("encoder", "decoder")

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
        unit = pixel_fold * 2 ** len(channels)
        if patch_size % unit:
            raise ValueError(
                f"patch_size is {patch_size}, expected multiples of {unit} with "
                f"{len(channels)} levels: the collage halves the coarsest maps"
            )
        self.time_embed = mlp(time_channels, embed_dim // 2)
        self.position_embed = mlp(2 * position_channels, embed_dim // 2)
        self.cond_embed = nn.Identity() if cond_dim == embed_dim else mlp(cond_dim, embed_dim)
        layers = Layers(
            in_channels, pixel_fold, channels, res_blocks, attention_levels, norm_groups, dropout
        )
        self.encoder = Encoder(layers)
        self.decoder = Decoder(layers, self.encoder.skips)
        # For f_E and f_D: all scales of their residual blocks, then all shifts, by time and by
        # position; further scales by the code.
        widths = [sum(self.encoder.modulated), sum(self.decoder.modulated)]
        half = embed_dim // 2
        self.time_project = nn.ModuleList([_linear(half, 2 * n, bias=False) for n in widths])
        self.position_project = nn.ModuleList([_linear(half, 2 * n) for n in widths])
        self.cond_project = nn.ModuleList([nn.Linear(embed_dim, n) for n in widths])

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
        modulation = self._modulation(_ENCODER, len(patches), t, positions, cond, dtype)
        return self.encoder(_batched(patches.to(dtype)), *modulation)

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
        n = len(features[0])
        modulation = self._modulation(_DECODER, n, t, positions, cond, self.dtype)
        return self.decoder([_batched(z) for z in features], *modulation)

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
    def project_positions(self, positions: Tensor) -> Projected:
        """Project positions (P, 2) once for many calls; a NaN row is an unknown position."""
        dtype = self.dtype
        return Projected.of(positions, lambda half: self._position(half, positions, dtype))

    @apply_forward_hook
    def project_cond(self, cond: Tensor) -> Projected:
        """Project global codes (B, cond_dim) once for many calls; zeros are an unknown code."""
        dtype = self.dtype
        return Projected.of(cond, lambda half: self._cond(half, cond, dtype))

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile f_E and f_D, which samplers call instead of `forward`; as torch.compile.

        A number of patches that was not seen before does not compile again.
        """
        self.encoder.compile(*args, **kwargs)
        self.decoder.compile(*args, **kwargs)

    @property
    def is_compiled(self) -> bool:
        """Whether `compile` was called; a copy or what was pickled is not compiled."""
        return self.encoder._compiled_call_impl is not None  # noqa: SLF001 - there is no other way

    def _modulation(
        self,
        half: int,
        n: int,
        t: Tensor,
        positions: Tensor | None,
        cond: Tensor | None,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        """Return factor and summand of all residual blocks, (n, width) each.

        Their maps h become ((1 + scale) h + shift) (1 + cond_scale) (PAPER section 3).
        """
        if positions is None:
            positions = torch.full((1, 2), torch.nan, device=t.device)
        if cond is None:
            cond = torch.zeros(1, self.config.cond_dim, device=t.device)
        time, position, code = (
            given.halves[half] if isinstance(given, Projected) else project(half, given, dtype)
            for given, project in ((t, self._time), (positions, self._position), (cond, self._cond))
        )
        code = _per_image(code, n)
        scale, shift = (_per_image(time, n) + position.repeat(n // len(position), 1)).chunk(2, 1)
        return _batched((1 + scale) * code), _batched(shift * code)

    def _time(self, half: int, t: Tensor, dtype: torch.dtype) -> Tensor:
        """(B,) -> (B, 2 * width), the width of all residual blocks together."""
        emb = self.time_embed(sinusoid(t, self.config.time_channels).to(dtype))
        return self.time_project[half](F.silu(emb))

    def _position(self, half: int, positions: Tensor, dtype: torch.dtype) -> Tensor:
        """(P, 2) -> (P, 2 * width)."""
        if not self.config.use_position:
            positions = torch.full_like(positions[:1], torch.nan)
        waves = [sinusoid(axis, self.config.position_channels) for axis in positions.unbind(1)]
        # Dropped before the MLP, whose biases stay: "unknown" is a separate position.
        known = torch.cat(waves, dim=1).nan_to_num(0.0)
        return self.position_project[half](F.silu(self.position_embed(known.to(dtype))))

    def _cond(self, half: int, cond: Tensor, dtype: torch.dtype) -> Tensor:
        """(B, cond_dim) -> (B, width), 1 + cond_scale."""
        return 1 + self.cond_project[half](F.silu(self.cond_embed(cond.to(dtype))))


def _linear(half: int, out_features: int, *, bias: bool = True) -> nn.Linear:
    """Return a layer for half of an embedding, with first weights as for the whole."""
    linear = nn.Linear(half, out_features, bias=bias)
    for parameter in linear.parameters():
        nn.init.uniform_(parameter, -1 / math.sqrt(2 * half), 1 / math.sqrt(2 * half))
    return linear


def _batched(values: Tensor) -> Tensor:
    """Mark the number of patches, which differs from call to call, for torch.compile."""
    if not torch.compiler.is_compiling():
        torch._dynamo.maybe_mark_dynamic(values, 0)  # noqa: SLF001 - documented as public
    return values


def _per_image(values: Tensor, n: int) -> Tensor:
    """Repeat a value per image for each of its patches: (B, ...) -> (n, ...)."""
    return values.repeat_interleave(n // len(values), dim=0)
