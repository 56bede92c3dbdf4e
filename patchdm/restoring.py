"""In- and outpainting, the methods `inpaint` and `outpaint` of PatchDMPipeline (`pipe`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, DiffusionPipeline, ImagePipelineOutput
from PIL import Image
from torch import Tensor

from patchdm.formats.colour import to_srgb
from patchdm.formats.images import to_tensor
from patchdm.grid import PatchGrid
from patchdm.sampling.denoise import Denoiser
from patchdm.sampling.encode import CodeFit, code_of_image
from patchdm.sampling.inpaint import checked_mask, inpaint
from patchdm.sampling.outpaint import canvas_around
from patchdm.sampling.solve import begin, check_count, check_solver, tiling_of_step
from patchdm.sampling.solvers import solver

HALF = 127.5
"""Levels of a PIL mask from here on are white."""
SLACK = 8.0
"""By which images may leave [-1, 1], as a solver leaves them; pixels of 0 to 255 do so by more."""
OUTPUT_TYPES = ("pil", "np", "pt", "latent")
Generators = torch.Generator | list[torch.Generator] | None
ImageInput = Tensor | Image.Image | Sequence[Image.Image]
MaskInput = ImageInput


@torch.no_grad()
def inpaint_images(
    pipe: DiffusionPipeline,
    image: ImageInput,
    mask: MaskInput,
    num_inference_steps: int = 50,
    guidance_scale: float = 0.0,
    generator: Generators = None,
    cond: Tensor | None = None,
    output_type: str = "pil",
    return_dict: bool = True,
    *,
    code: str = "image",
    fit: CodeFit | None = None,
    resamplings: int = 4,
    blend_width: int = 4,
    tiling: str = "shifted",
    positions: str = "extrapolate",
    guidance_interval: tuple[int, int] | None = None,
    rows_per_chunk: int | None = None,
    cols_per_chunk: int | None = None,
    latent_num_inference_steps: int = 50,
) -> ImagePipelineOutput | tuple[Any]:
    """Make what a mask covers; every other pixel of the result is that of the image, exactly.

    The solver is DDIM whatever the scheduler: resampling breaks the history of multistep
    solvers. With a list of generators, image i depends on generator i alone.

    Args:
        image: PIL images, transparency over white, or (B, channels, H, W) float in [-1, 1]; sides
            multiples of the patch size.
        mask: (H, W) or (B, 1, H, W), True where pixels are to be made; as numbers in [0, 1], or
            PIL images, white there.
        num_inference_steps: DDIM steps; each is made `resamplings` times.
        generator: as in `__call__`; each gives x_T first, then the draws of the code, then the
            noise of the resamplings.
        cond: (B, code_dim) global codes; None: as `code` says.
        code: "image": that of the known pixels, by the encoder or, with a code table, by `fit`;
            "latent": sampled.
        fit: how codes are fitted to images, where there is a code table; with positions that
            count on from the first patch.
        resamplings, blend_width: see `patchdm.sampling.inpaint.inpaint`.
        guidance_scale, output_type, return_dict, tiling, positions, guidance_interval,
            rows_per_chunk, cols_per_chunk, latent_num_inference_steps: as in `__call__`.

    Returns:
        The images, as `images` or in a tuple.

    Raises:
        ValueError: an argument does not fit.
    """
    known = pipe.to_device(_to_tensor(image))
    batch, *shape = known.shape
    height, width = shape[1:]
    pipe.check_inputs(
        batch, tuple(shape), generator, cond, None, output_type, guidance_scale=guidance_scale
    )
    if code not in ("image", "latent"):
        raise ValueError(f"`code` is {code!r}, expected image and latent")
    check_count("resamplings", resamplings)
    check_count("blend_width", blend_width, least=0)
    mask = checked_mask(_mask_tensor(mask), known)
    check_solver(pipe.scheduler)
    scheduler = solver(pipe.scheduler, "ddim")
    begin(scheduler, num_inference_steps)
    x_T = pipe.to_device(pipe.gaussian(batch, tuple(shape), generator))
    if cond is None and code == "image":
        cond = _code_of(pipe, known, mask, scheduler, generator, fit)
    elif cond is None and pipe.latent is not None:
        cond = pipe.sample_codes(batch, generator, latent_num_inference_steps)
    denoiser = Denoiser(
        pipe.unet,
        PatchGrid.of(height, width, pipe.unet.config.patch_size),
        None if cond is None else pipe.to_device(cond),
        rows_per_chunk=rows_per_chunk,
        cols_per_chunk=cols_per_chunk,
        grid_shape=pipe.grid_shape(positions),
    )
    first, last = guidance_interval or (0, scheduler.config.num_train_timesteps)
    with pipe.progress_bar(total=num_inference_steps * resamplings) as bar:

        def predict(x_t: Tensor, t: Tensor, index: int) -> Tensor:
            bar.update()
            return denoiser(
                x_t,
                t.expand(batch).to(x_t.device),
                guidance_scale=guidance_scale if first <= t < last else 0.0,
                tiling=tiling_of_step(pipe.unet, tiling, index, num_inference_steps),
            )

        x_0 = inpaint(
            predict,
            scheduler,
            known,
            mask,
            x_T,
            lambda: pipe.to_device(pipe.gaussian(batch, tuple(shape), generator)),
            resamplings=resamplings,
            blend_width=blend_width,
        )
    images = pipe.image_processor.postprocess(x_0, output_type)
    pipe.maybe_free_model_hooks()
    return ImagePipelineOutput(images=images) if return_dict else (images,)


def outpaint_images(
    pipe: DiffusionPipeline,
    image: ImageInput,
    left: int = 0,
    top: int = 0,
    right: int = 0,
    bottom: int = 0,
    output_type: str = "pil",
    return_dict: bool = True,
    **options: Any,
) -> ImagePipelineOutput | tuple[Any]:
    """Make what lies beyond the borders of an image; the image itself is kept exactly.

    The canvas is filled up to whole patches, and what was not asked for is cut off at the end.
    Positions count from the canvas' first patch.

    Args:
        image: as in `inpaint`, of any size.
        left, top, right, bottom: pixels to make on each side.
        output_type, return_dict: as in `__call__`.
        **options: further ones of `inpaint`.

    Returns:
        The images, as `images` or in a tuple.

    Raises:
        ValueError: an argument does not fit.
    """
    if output_type not in OUTPUT_TYPES:
        raise ValueError(f"`output_type` is {output_type!r}, expected {OUTPUT_TYPES}")
    canvas = canvas_around(
        _to_tensor(image),
        left=left,
        top=top,
        right=right,
        bottom=bottom,
        patch_size=pipe.unet.config.patch_size,
    )
    made = pipe.inpaint(canvas.known, canvas.mask, output_type="latent", **options)[0]
    asked = made[..., canvas.rows, canvas.cols]
    images = pipe.image_processor.postprocess(asked, output_type)
    return ImagePipelineOutput(images=images) if return_dict else (images,)


def _code_of(
    pipe: DiffusionPipeline,
    known: Tensor,
    mask: Tensor,
    scheduler: DDIMScheduler,
    generator: Generators,
    fit: CodeFit | None,
) -> Tensor | None:
    """Return the codes of partly known images; None: the model has no global code."""
    coder = pipe.code_table if pipe.encoder is None else pipe.encoder
    if coder is None:
        if pipe.latent is None:
            return None
        raise ValueError("`code` is 'image', but the model has no encoder and no code table")
    each = generator if isinstance(generator, list) else [generator] * len(known)
    return code_of_image(coder, pipe.unet, scheduler, known, mask=mask, fit=fit, generators=each)


def _to_tensor(image: ImageInput) -> Tensor:
    """Return images as (B, channels, H, W) in [-1, 1].

    Raises:
        ValueError: they are something else, such as pixels of 0 to 255, or of different sizes.
    """
    if not isinstance(image, Tensor):
        images = _pil_images("image", image)
        return to_tensor(np.stack([np.asarray(to_srgb(each)) for each in images]))
    if image.ndim != 4 or not image.is_floating_point():
        raise ValueError(
            f"`image` is {_described(image)}, expected PIL images or float (B, channels, H, W) in "
            "[-1, 1]"
        )
    _check_range("image", image, -1.0, slack=SLACK)
    return image


def _mask_tensor(mask: MaskInput) -> Tensor:
    """Return a mask as bool; numbers count from a half on, as diffusers' pipelines take them.

    Raises:
        ValueError: it is something else, or its numbers are not in [0, 1].
    """
    if not isinstance(mask, Tensor):
        levels = np.stack([np.asarray(each.convert("L")) for each in _pil_images("mask", mask)])
        return torch.from_numpy(levels >= HALF)[:, None]
    if mask.dtype == torch.bool:
        return mask
    _check_range("mask", mask, 0.0, slack=0.0)
    return mask >= 0.5


def _pil_images(name: str, given: object) -> list[Image.Image]:
    """Return one or more PIL images as a list, all of one size."""
    several = given if isinstance(given, list | tuple) else [given]
    images = [each for each in several if isinstance(each, Image.Image)]
    if not images or len(images) < len(several):
        raise ValueError(f"`{name}` is {_described(given)}, expected PIL images or a tensor")
    sizes = {each.size for each in images}
    if len(sizes) > 1:
        raise ValueError(f"`{name}` has images of sizes {sorted(sizes)}, expected one size")
    return images


def _check_range(name: str, values: Tensor, least: float, *, slack: float) -> None:
    """Refuse values that are not in [least, 1], give or take some, or not finite."""
    low, high = (float(value) for value in values.float().aminmax()) if values.numel() else (0, 0)
    if not (low >= least - slack and high <= 1 + slack):  # a NaN is neither
        raise ValueError(f"`{name}` has values from {low:g} to {high:g}, expected [{least:g}, 1]")


def _described(given: object) -> str:
    """Return what was given instead of images, in few words."""
    if isinstance(given, Tensor):
        return f"{given.dtype} of shape {tuple(given.shape)}"
    if isinstance(given, list | tuple):
        kinds = sorted({type(each).__name__ for each in given})
        return f"a {type(given).__name__} of {', '.join(kinds) or 'nothing'}"
    return f"a {type(given).__name__}"
