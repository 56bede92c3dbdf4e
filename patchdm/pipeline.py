"""PatchDMPipeline: the trained parts as one diffusers pipeline, from noise to images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput, SchedulerMixin
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.image_processor import VaeImageProcessor
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from patchdm.choices import OutputType, SampleCode, check_choice, check_names
from patchdm.grid import PatchGrid
from patchdm.models import CodeTable, LatentMLP, PatchUNet, SemanticEncoder
from patchdm.models.trained import read_trained
from patchdm.restoring import Generators, ImageInput, RestoringMixin, to_images
from patchdm.sampling.callbacks import OnStepEnd, RunningMixin, on_step_end
from patchdm.sampling.checks import check_count, check_guidance, check_shapes
from patchdm.sampling.coarse import canvases_of
from patchdm.sampling.codes import chosen_codes, sample_codes
from patchdm.sampling.denoise import Denoiser
from patchdm.sampling.solve import solve
from patchdm.sampling.solvers import begin, check_schedule, schedule_of
from patchdm.saved import located
from patchdm.to_diffusers import known_to_diffusers


@known_to_diffusers
class PatchDMPipeline(RunningMixin, RestoringMixin, DiffusionPipeline):
    """Sample images of any size that is a multiple of the patch size.

    Every solver of diffusers that denoises pixels fits as scheduler, made `from_config` of the
    trained one. A pipeline without latent model samples with the codes it is given, else without.

    Args:
        unet: the image model.
        scheduler: its solver and noise schedule.
        latent: the latent model that global codes are sampled from.
        latent_scheduler: its DDIM scheduler, given with `latent`.
        encoder: gives the code of an image, where it was trained with the U-Net.
        code_table: gives the codes of the training images, where they were.
        defaults: how commands sample with it, see `patchdm.cli.defaults`; saved along.

    Raises:
        ValueError: the parts do not fit each other.

    Example:
        >>> pipe = PatchDMPipeline.from_pretrained("models/nature1024").to("cuda")
        >>> pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
        >>> generator = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
        >>> images = pipe(2, 512, 1024, num_inference_steps=20, generator=generator).images
        >>> images[0].save("000000.png")
    """

    model_cpu_offload_seq = "latent->unet"
    _optional_components = ["latent", "latent_scheduler", "encoder", "code_table"]  # noqa: RUF012
    _callback_tensor_inputs = ["latents", "cond"]  # noqa: RUF012 - diffusers compares lists

    def __init__(
        self,
        unet: PatchUNet,
        scheduler: SchedulerMixin,
        latent: LatentMLP | None = None,
        latent_scheduler: SchedulerMixin | None = None,
        encoder: SemanticEncoder | None = None,
        code_table: CodeTable | None = None,
        defaults: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        codes = {"encoder": encoder, "code_table": code_table}
        for name, part in {"latent": latent, **codes}.items():
            if part is not None and part.config.code_dim != unet.config.cond_dim:
                raise ValueError(
                    f"`{name}` has codes of width {part.config.code_dim}, `unet` takes "
                    f"{unet.config.cond_dim}"
                )
        if latent is not None and latent_scheduler is None:
            raise ValueError("`latent` is given without `latent_scheduler`")
        latents = {"latent": latent, "latent_scheduler": latent_scheduler}
        self.register_modules(unet=unet, scheduler=scheduler, **latents, **codes)
        self.register_to_config(defaults=defaults)
        self.image_processor = VaeImageProcessor()
        self.learnt = schedule_of(scheduler)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path | None = None, **options: Any
    ) -> Self:
        """Load a folder of `save_pretrained` or a model of the hub; None: the bundled model.

        Raises:
            PatchDMError: there is no such model, or a file is damaged.
        """
        folder = located(pretrained_model_name_or_path, options)
        return super().from_pretrained(folder, **{"use_safetensors": True} | options)

    @classmethod
    def from_stages(cls, image_model: Path, latent_model: Path | None) -> Self:
        """Read the folders that the training stages write; None: the model has no global code.

        Raises:
            PatchDMError: a folder is missing or of another kind.
        """
        return cls(**read_trained(image_model, latent_model))

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int = 1,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int = 50,
        guidance_scale: float = 0.0,
        generator: Generators = None,
        cond: Tensor | None = None,
        latents: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        *,
        image: ImageInput | None = None,
        strength: float = 0.5,
        code: str = "latent",
        tiling: str = "shifted",
        positions: str = "extrapolate",
        wrap: str = "none",
        guidance_interval: tuple[int, int] | None = None,
        rows_per_chunk: int | None = None,
        cols_per_chunk: int | None = None,
        latent_num_inference_steps: int = 50,
        callback_on_step_end: OnStepEnd | PipelineCallback | MultiPipelineCallbacks | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> ImagePipelineOutput | tuple[Any]:
        """Sample images. With a list of generators, image i depends on generator i alone.

        Args:
            batch_size: number of images.
            height, width: sides in pixels, multiples of the patch size; None: those of
                `latents`, else of the training images, else one patch.
            num_inference_steps: solver steps.
            guidance_scale: w of classifier-free guidance (the paper: 0.5), 0 is none.
            generator: one for all images, or a list of one per image. Each gives x_T first, then
                the noise of the code, then what the solver adds.
            cond: (batch_size, code_dim) global codes, or a field of them over each image,
                (batch_size, rows, columns, code_dim); None: drawn, as `code` says.
            latents: x_T, (batch_size, channels, height, width) Gaussian noise; None: drawn.
            output_type: "pil", "np" or "pt" in [0, 1], or "latent": as the solver leaves them,
                (batch_size, channels, height, width) in about [-1, 1].
            return_dict: False gives a plain tuple.
            image: PIL images, or (batch_size, channels, h, w) float in [-1, 1], of any size: what
                the canvas begins as, enlarged, instead of as noise alone.
            strength: share of the steps that are then made, the last ones; above 0, at most 1.
            code: "latent": from the latent model, where there is one; "training": that of a
                training image, from the table, each as likely as any other.
            tiling: of feature collage: "shifted" (the paper), or "blend", of which the last
                quarter of the steps is as in `predict_eps`. The other collage modes sample as they
                train, whatever is said here.
            positions: of patches beyond the training size: "extrapolate" counts on, "rescale"
                spreads those of training over the canvas, "reflect" goes through them forth and
                back; of rows and columns apart: "extrapolate,reflect".
            wrap: axes along which images close on themselves: "none", "x" (panoramas of 360
                degrees), "y" or "xy" (textures that tile); positions are reflected along them.
            guidance_interval: first <= t < last of the time steps with guidance; None: all.
            rows_per_chunk, cols_per_chunk: patches worked on at once; see `predict_eps`.
            latent_num_inference_steps: solver steps of the codes.
            callback_on_step_end: called with (pipeline, step, time step, tensors) after each step;
                the tensors it returns replace those of the call; `pipeline._interrupt = True` ends
                it with what is there.
            callback_on_step_end_tensor_inputs: which it gets, of "latents" (x_t) and "cond".

        Returns:
            The images, as `images` or in a tuple.

        Raises:
            ValueError: an argument does not fit.
        """
        if isinstance(callback_on_step_end, PipelineCallback | MultiPipelineCallbacks):
            callback_on_step_end_tensor_inputs = callback_on_step_end.tensor_inputs
        shape = self._shape(height, width, latents)
        self.check_inputs(
            batch_size, shape, generator, cond, latents, output_type, guidance_scale=guidance_scale
        )
        check_choice("code", code, SampleCode)
        check_names(
            "callback_on_step_end_tensor_inputs",
            callback_on_step_end_tensor_inputs,
            self._callback_tensor_inputs,
        )
        check_schedule(self.scheduler, self.learnt)
        begin(self.scheduler, num_inference_steps)  # before anything is drawn
        begun = None if image is None else canvases_of(to_images(image), batch_size, shape)

        self._guidance_scale = guidance_scale
        x_T = self.gaussian(batch_size, shape, generator) if latents is None else latents
        if cond is None and code == "training":
            cond = self.training_codes(batch_size, generator)
        elif cond is None and self.latent is not None:
            cond = self.sample_codes(batch_size, generator, latent_num_inference_steps)
        denoiser = self.denoiser(
            shape[1:],
            cond,
            tiling=tiling,
            positions=positions,
            wrap=wrap,
            guidance_interval=guidance_interval,
            rows_per_chunk=rows_per_chunk,
            cols_per_chunk=cols_per_chunk,
        )

        x_0 = solve(
            denoiser,
            self.scheduler,
            self.to_device(x_T),
            num_steps=num_inference_steps,
            image=None if begun is None else self.to_device(begun),
            strength=strength,
            generator=generator,
            on_step=on_step_end(
                self, denoiser, callback_on_step_end, callback_on_step_end_tensor_inputs
            ),
            show=self.show_steps,
        )
        return self.finished(x_0, output_type, return_dict)

    def denoiser(
        self,
        size: tuple[int, int],
        cond: Tensor | None,
        *,
        tiling: str = "shifted",
        positions: str = "extrapolate",
        wrap: str = "none",
        guidance_interval: tuple[int, int] | None = None,
        rows_per_chunk: int | None = None,
        cols_per_chunk: int | None = None,
    ) -> Denoiser:
        """Return the network on canvases of a size (height, width); arguments as of a call.

        Its guidance is `guidance_scale` of the call that is running, within the interval.
        """
        first, last = guidance_interval or (0, self.scheduler.config.num_train_timesteps)
        return Denoiser(
            self.unet,
            PatchGrid.of(*size, self.unet.config.patch_size),
            None if cond is None else self.to_device(cond),
            tiling=tiling,
            guidance=lambda t: self.guidance_scale if first <= t < last else 0.0,
            rows_per_chunk=rows_per_chunk,
            cols_per_chunk=cols_per_chunk,
            positions=positions,
            wrap=wrap,
            device=self._execution_device,
        )

    def sample_codes(
        self,
        batch_size: int,
        generator: Generators,
        num_steps: int,
        *,
        lattice: tuple[int, ...] = (),
    ) -> Tensor:
        """Draw global codes, (batch_size, *lattice, code_dim), from the latent model."""
        check_count("latent_num_inference_steps", num_steps)
        z_T = self.gaussian(batch_size, (*lattice, self.latent.config.code_dim), generator)
        codes = sample_codes(
            self.latent, self.latent_scheduler, z_T.flatten(0, -2), num_steps=num_steps
        )
        return codes.view_as(z_T)

    def training_codes(self, batch_size: int, generator: Generators) -> Tensor:
        """Draw global codes, (batch_size, code_dim), from those of the training images.

        Raises:
            ValueError: there is no table of them.
        """
        count = 0 if self.code_table is None else self.code_table.config.num_images
        if not count:  # as in a model that was published
            raise ValueError("`code` is 'training', expected 'latent': there is no table of them")
        draws = self.gaussian(batch_size, (count,), generator)
        return chosen_codes(self.code_table, draws)

    def finished(
        self, x_0: Tensor, output_type: str, return_dict: bool
    ) -> ImagePipelineOutput | tuple[Any]:
        """Return what a call returns of its images (B, channels, H, W) in [-1, 1]."""
        images = self.image_processor.postprocess(x_0, output_type)
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def check_inputs(
        self,
        batch_size: int,
        shape: tuple[int, int, int],
        generator: Generators,
        cond: Tensor | None,
        latents: Tensor | None,
        output_type: str,
        *,
        guidance_scale: float,
    ) -> None:
        """Raise a ValueError that names the argument, what was found and what is expected."""
        check_count("batch_size", batch_size)
        check_guidance(self.unet, guidance_scale)
        PatchGrid.of(shape[1], shape[2], self.unet.config.patch_size)
        if isinstance(generator, list) and len(generator) != batch_size:
            raise ValueError(
                f"`generator` is a list of {len(generator)}, expected one per image: {batch_size}"
            )
        check_shapes(
            cond=(cond, (batch_size, *_lattice(cond), self.unet.config.cond_dim)),
            latents=(latents, (batch_size, *shape)),
        )
        check_choice("output_type", output_type, OutputType)

    def _shape(
        self, height: int | None, width: int | None, latents: Tensor | None
    ) -> tuple[int, int, int]:
        """Return the shape of an image, with the sides that are not given filled in."""
        config = self.unet.config
        trained = config.sample_size or (config.patch_size, config.patch_size)
        rows, cols = trained if latents is None else latents.shape[-2:]
        return (
            self.unet.config.in_channels,
            rows if height is None else height,
            cols if width is None else width,
        )

    def gaussian(self, batch_size: int, shape: tuple[int, ...], generator: Generators) -> Tensor:
        """Draw (batch_size, *shape) in float32, on the device of the generator."""
        return randn_tensor(
            (batch_size, *shape),
            generator=generator,
            device=self._execution_device,
            dtype=torch.float32,
        )

    def to_device(self, tensor: Tensor) -> Tensor:
        """Return a tensor as the parts take it: float32, where they compute."""
        return tensor.to(self._execution_device, torch.float32)


def _lattice(cond: Tensor | None) -> tuple[int, ...]:
    """Return rows and columns of a field of codes; of one code an image nothing."""
    return tuple(cond.shape[1:3]) if cond is not None and cond.ndim == 4 else ()
