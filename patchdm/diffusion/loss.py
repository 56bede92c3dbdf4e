"""The training loss on one window of 2 x 2 padded patches (PAPER section 1, Training step).

The paper's loss is that of feature collage. The other collage modes, its ablations, train the
same network on the same windows, with other patches of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler
from diffusers.training_utils import compute_snr
from torch import Tensor

from patchdm.diffusion.schedules import paper_scheduler
from patchdm.grid import collage, merge, positions, split
from patchdm.models.unet import PatchUNet


@dataclass(frozen=True)
class Window:
    """One window of 2 x 2 padded patches from each of B images.

    Attributes:
        x0: (B, C, 2p, 2p) pixels in [-1, 1], any value in the padding.
        inside: (B, 1, 2p, 2p), 1 on the image, 0 on the padding around it.
        corner: (B, 2) row and column of the window's first padded patch; NaN: position dropped.
        offset: (B, 2) int, y and x in 0..p of the patch that pixel-random cuts from the window.
    """

    x0: Tensor
    inside: Tensor
    corner: Tensor
    offset: Tensor


def training_loss(
    unet: PatchUNet,
    x0: Tensor,
    t: Tensor,
    cond: Tensor | None,
    *,
    noise: Tensor,
    window: tuple[int, int] | Tensor,
    scheduler: DDIMScheduler | None = None,
) -> Tensor:
    """Return the loss of images on one window each, a scalar.

    Args:
        unet: the network.
        x0: (B, C, H, W) images in [-1, 1].
        t: (B,) time steps in 0..999.
        cond: (B, cond_dim) global codes, or None.
        noise: (B, C, H + p, W + p), Gaussian, on the padded canvas.
        window: (row, col) of the window's first padded patch, or (B, 2), one per image.
        scheduler: the noise schedule and prediction type; None is the paper's.
    """
    p = unet.config.patch_size
    corner = torch.as_tensor(window, device=x0.device).expand(len(x0), 2)
    losses = window_losses(
        unet,
        cut_windows(x0, corner, torch.full_like(corner, p // 2), p),
        t,
        cond,
        noise=_crop(noise, corner * p, 2 * p),
        scheduler=scheduler or paper_scheduler(),
    )
    return torch.stack(list(losses.values())).sum(dim=0).mean()


def cut_windows(x0: Tensor, corner: Tensor, offset: Tensor, p: int) -> Window:
    """Cut a window from each whole image (B, C, H, W); corner and offset as in Window, int."""
    canvas, inside = (F.pad(plane, (p // 2,) * 4) for plane in (x0, torch.ones_like(x0[:, :1])))
    pixels, mask = (_crop(plane, corner * p, 2 * p) for plane in (canvas, inside))
    return Window(pixels, mask, corner.float(), offset)


def window_losses(
    unet: PatchUNet,
    window: Window,
    t: Tensor,
    cond: Tensor | None,
    *,
    noise: Tensor,
    scheduler: DDIMScheduler,
    known: Tensor | None = None,
) -> dict[str, Tensor]:
    """Return the mean squared errors (B,) whose sum is the loss of the network's collage mode.

    The paper has two, `shifted` of the one shifted patch and `plain` of the four padded ones. The
    latter is zero on the padding, and its mean is over all elements (the authors' code).

    Args:
        unet: the network; its config names the collage mode.
        window: pixels, mask and position of the windows.
        t: (B,) time steps.
        cond: (B, cond_dim) global codes, or None.
        noise: (B, C, 2p, 2p).
        scheduler: the noise schedule and prediction type.
        known: (B, 1, 2p, 2p), 1 where errors count, 0 elsewhere; None: they count everywhere.
    """
    target = noise
    if scheduler.config.prediction_type == "v_prediction":
        # v = sqrt(a) eps - sqrt(1 - a) x0 (2202.00512)
        target = scheduler.get_velocity(window.x0, noise, t)
    noisy = _Noisy(
        x_t=scheduler.add_noise(window.x0, noise, t) * window.inside,
        target=target,
        counted=window.inside if known is None else window.inside * known,
        t=t,
        cond=cond,
    )
    return _LOSSES[unet.config.collage](unet, noisy, window)


@dataclass(frozen=True)
class _Noisy:
    """Noisy pixels, the target of the prediction, the mask of the pixels that count; conditions."""

    x_t: Tensor
    target: Tensor
    counted: Tensor
    t: Tensor
    cond: Tensor | None

    def cut(self, offset: Tensor, p: int) -> _Noisy:
        """Cut a patch at (y, x) from each image: offset (B, 2)."""
        planes = (self.x_t, self.target, self.counted)
        x_t, target, counted = (_crop(plane, offset, p) for plane in planes)
        return _Noisy(x_t, target, counted, self.t, self.cond)

    def error(self, prediction: Tensor) -> Tensor:
        """Return the mean squared error (B,), zero where it does not count."""
        return ((prediction - self.target) * self.counted).square().flatten(1).mean(dim=1)


def _feature(unet: PatchUNet, noisy: _Noisy, window: Window) -> dict[str, Tensor]:
    """The paper: f_D decodes the same features unchanged and collaged, in one call."""
    p = unet.config.patch_size
    padded = _four_positions(window)
    features = unet.encode(split(noisy.x_t, p), noisy.t, padded, noisy.cond)
    maps = [torch.cat([z, collage(z, 1, 1)]) for z in features]
    codes = None if noisy.cond is None else _four_and_one(noisy.cond)
    decoded = unet.decode(
        maps, _four_and_one(noisy.t), torch.cat([padded, window.corner + 0.5]), codes
    )
    plain, shifted = decoded[: len(padded)], decoded[len(padded) :]
    return {
        "shifted": noisy.cut(_centre(window, p), p).error(shifted),
        "plain": noisy.error(merge(plain, 2, 2)),
    }


def _none(unet: PatchUNet, noisy: _Noisy, window: Window) -> dict[str, Tensor]:
    """The shifted patch alone: no patch sees another."""
    offset = _centre(window, unet.config.patch_size)
    return {"shifted": _patch_error(unet, noisy, window, offset)}


def _pixel_fixed(unet: PatchUNet, noisy: _Noisy, window: Window) -> dict[str, Tensor]:
    """The paper's two terms without the collage: single patches of both grids."""
    patches = split(noisy.x_t, unet.config.patch_size)
    plain = _alone(unet, patches, noisy, _four_positions(window))
    return _none(unet, noisy, window) | {"plain": noisy.error(merge(plain, 2, 2))}


def _pixel_random(unet: PatchUNet, noisy: _Noisy, window: Window) -> dict[str, Tensor]:
    """A single patch from anywhere in the window."""
    return {"random": _patch_error(unet, noisy, window, window.offset)}


_LOSSES = {
    "feature": _feature,
    "none": _none,
    "pixel-fixed": _pixel_fixed,
    "pixel-random": _pixel_random,
}
"""Collage mode -> its losses."""


def _patch_error(unet: PatchUNet, noisy: _Noisy, window: Window, offset: Tensor) -> Tensor:
    """Return the error of the patch at an offset (B, 2) in the window, predicted alone."""
    p = unet.config.patch_size
    patch = noisy.cut(offset, p)
    return patch.error(_alone(unet, patch.x_t, patch, window.corner + offset / p))


def _alone(unet: PatchUNet, patches: Tensor, noisy: _Noisy, position: Tensor) -> Tensor:
    """Predict patches without a collage, under the conditions of `noisy`."""
    features = unet.encode(patches, noisy.t, position, noisy.cond)
    return unet.decode(features, noisy.t, position, noisy.cond)


def _four_positions(window: Window) -> Tensor:
    """Return the positions (B * 4, 2) of the padded patches."""
    corners = window.corner[:, None]
    return (corners + positions(1, 1, shifted=False, device=corners.device)).flatten(0, 1)


def _four_and_one(values: Tensor) -> Tensor:
    """Repeat one value per image for its four padded patches, then append all for the shifted."""
    return torch.cat([values.repeat_interleave(4, dim=0), values])


def _centre(window: Window, p: int) -> Tensor:
    return torch.full_like(window.offset, p // 2)


def _crop(plane: Tensor, corner: Tensor, side: int) -> Tensor:
    """Cut a square at (y, x) from each image: (B, C, H, W), (B, 2) int -> (B, C, side, side)."""
    steps = torch.arange(side, device=plane.device)
    image = torch.arange(len(plane), device=plane.device)[:, None, None]
    y, x = (corner[:, axis, None] + steps for axis in (0, 1))
    return plane[image, :, y[:, :, None], x[:, None, :]].movedim(-1, 1)


def min_snr_weight(scheduler: DDIMScheduler, t: Tensor, gamma: float) -> Tensor:
    """Return the weight (B,) of the loss at steps t (B,): Min-SNR-gamma (2303.09556, section 3.4).

    min(SNR, gamma) divided by the prediction type's own weight of x0's error: SNR for eps,
    SNR + 1 for v.
    """
    snr = compute_snr(scheduler, t)
    inherent = snr + 1 if scheduler.config.prediction_type == "v_prediction" else snr
    return snr.clamp(max=gamma) / inherent
