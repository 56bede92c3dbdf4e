"""In- and outpainting by the pipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypedDict, Unpack

import numpy as np
import torch
from diffusers import ImagePipelineOutput
from PIL import Image
from torch import Tensor

from patchdm.choices import Code, OutputType, check_choice
from patchdm.formats.colour import to_srgb
from patchdm.formats.tensors import to_tensor
from patchdm.models import CodeTable, SemanticEncoder
from patchdm.sampling.checks import check_count
from patchdm.sampling.denoise import Denoiser
from patchdm.sampling.encode import CodeFit, code_of_image
from patchdm.sampling.fields import drifting
from patchdm.sampling.inpaint import checked_mask, inpaint
from patchdm.sampling.outpaint import canvas_around
from patchdm.sampling.solve import Predict
from patchdm.sampling.solvers import begin, check_schedule, solver
from patchdm.sampling.tilings import Step

HALF = 127.5
"""Levels of a PIL mask from here on are white."""
SLACK = 8.0
"""By which images may leave [-1, 1], as a solver leaves them; pixels of 0 to 255 do so by more."""
Generators = torch.Generator | list[torch.Generator] | None
ImageInput = Tensor | Image.Image | Sequence[Image.Image]
MaskInput = ImageInput


class CanvasOptions(TypedDict, total=False):
    """Arguments of `PatchDMPipeline.__call__` that say how a canvas is worked on."""

    tiling: str
    positions: str
    wrap: str
    guidance_interval: tuple[int, int] | None
    rows_per_chunk: int | None
    cols_per_chunk: int | None


class Host(Protocol):
    """What a pipeline has for the mixin; see `PatchDMPipeline`."""

    unet: Any
    scheduler: Any
    latent: Any
    encoder: SemanticEncoder | None
    code_table: CodeTable | None
    check_inputs: Callable[..., None]
    denoiser: Callable[..., Denoiser]
    finished: Callable[..., ImagePipelineOutput | tuple[Any]]
    gaussian: Callable[..., Tensor]
    inpaint: Callable[..., Any]
    learnt: dict[str, Any]
    sample_codes: Callable[..., Tensor]
    show_steps: Callable[[Sequence[Step]], Iterable[Step]]
    to_device: Callable[[Tensor], Tensor]
    _guidance_scale: float


class RestoringMixin:
    """The methods `inpaint` and `outpaint` of PatchDMPipeline."""

    @torch.no_grad()
    def inpaint(
        self: Host,
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
        latent_num_inference_steps: int = 50,
        **canvas: Unpack[CanvasOptions],
    ) -> ImagePipelineOutput | tuple[Any]:
        """Make what a mask covers; every other pixel of the result is that of the image, exactly.

        The solver is DDIM whatever the scheduler: resampling breaks the history of multistep
        solvers. With a list of generators, image i depends on generator i alone.

        Args:
            image: PIL images, transparency over white, or (B, channels, H, W) float in [-1, 1];
                sides multiples of the patch size.
            mask: (H, W) or (B, 1, H, W), True where pixels are to be made; as numbers in [0, 1],
                or PIL images, white there.
            num_inference_steps: DDIM steps; each is made `resamplings` times.
            generator: as in `__call__`; each gives x_T first, then the draws of the code, then
                the noise of the resamplings.
            cond: (B, code_dim) global codes; None: as `code` says.
            code: "image": that of the known pixels, by the encoder or, with a code table, by
                `fit`; "latent": sampled; "field": that of the known pixels there, and sampled
                ones from a training image's longer side away, so that much that is new changes.
            fit: how codes are fitted to images, where there is a code table; with positions that
                count on from the first patch.
            resamplings, blend_width: see `patchdm.sampling.inpaint.inpaint`.
            guidance_scale, output_type, return_dict, latent_num_inference_steps: as in `__call__`.
            **canvas: tiling, positions, wrap, guidance_interval, rows_per_chunk, cols_per_chunk,
                as in `__call__`.

        Returns:
            The images, as `images` or in a tuple.

        Raises:
            ValueError: an argument does not fit.
        """
        known = self.to_device(to_images(image))
        batch, channels, height, width = known.shape
        shape = (channels, height, width)
        self.check_inputs(
            batch, shape, generator, cond, None, output_type, guidance_scale=guidance_scale
        )
        check_choice("code", code, Code)
        check_count("resamplings", resamplings)
        check_count("blend_width", blend_width, least=0)
        hole = checked_mask(_mask_tensor(mask), known)
        check_schedule(self.scheduler, self.learnt)
        scheduler = solver(self.scheduler, "ddim")
        begin(scheduler, num_inference_steps)
        self._guidance_scale = guidance_scale

        def draw() -> Tensor:
            return self.to_device(self.gaussian(batch, shape, generator))

        lattice = _lattice(self, height, width) if code == "field" else ()
        x_T = draw()
        if cond is None and code != "latent":
            each = generator if isinstance(generator, list) else [generator] * batch
            if coder := _coder(self, code):
                cond = code_of_image(
                    coder, self.unet, scheduler, known, mask=hole, fit=fit, generators=each
                )
            if cond is not None and code == "field":
                others = self.sample_codes(
                    batch, generator, latent_num_inference_steps, lattice=lattice
                )
                p, reach = self.unet.config.patch_size, max(self.unet.config.sample_size)
                cond = drifting(cond, others, hole, patch_size=p, reach=reach)
        elif cond is None and self.latent is not None:
            cond = self.sample_codes(batch, generator, latent_num_inference_steps)
        predict: Predict = self.denoiser((height, width), cond, **canvas)
        x_0 = inpaint(
            predict,
            scheduler,
            known,
            hole,
            x_T,
            draw,
            resamplings=resamplings,
            blend_width=blend_width,
            show=self.show_steps,
        )
        return self.finished(x_0, output_type, return_dict)

    def outpaint(
        self: Host,
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
        check_choice("output_type", output_type, OutputType)
        canvas = canvas_around(
            to_images(image),
            left=left,
            top=top,
            right=right,
            bottom=bottom,
            patch_size=self.unet.config.patch_size,
        )
        made = self.inpaint(canvas.known, canvas.mask, output_type="latent", **options)[0]
        return self.finished(made[..., canvas.rows, canvas.cols], output_type, return_dict)


def _coder(pipe: Host, code: str) -> CodeTable | SemanticEncoder | None:
    """Return what gives the code of an image; None: the model has no global code."""
    coder = pipe.code_table if pipe.encoder is None else pipe.encoder
    if coder is None and pipe.latent is not None:
        raise ValueError(f"`code` is {code!r}, but the model has no encoder and no code table")
    return coder


def _lattice(pipe: Host, height: int, width: int) -> tuple[int, int]:
    """Return rows and columns of other codes over a canvas: one for a training image, or more."""
    if pipe.latent is None:
        raise ValueError("`code` is 'field', but there is no latent model")
    if (trained := pipe.unet.config.sample_size) is None:
        raise ValueError("`code` is 'field', but `unet` has no sample_size")
    return -(-height // trained[0]), -(-width // trained[1])


def to_images(image: ImageInput) -> Tensor:
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
