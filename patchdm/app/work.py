"""How the studio does its jobs: by the functions of the commands, and seen at each step."""

from __future__ import annotations

import contextlib
import functools
import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from patchdm.app.explore import between, varied
from patchdm.app.jobs import CancelledError, Clock, Job, Jobs, Result
from patchdm.app.nearest import Finder
from patchdm.app.photographs import Images
from patchdm.app.requests import Inpaint, Interpolate, Panorama, Request, Sample, Solving, Vary
from patchdm.cli.panorama import planned
from patchdm.cli.restore import Restorer, beyond, masked
from patchdm.devices import one_thread
from patchdm.formats.images import Pixels, save_png
from patchdm.formats.tensors import to_uint8
from patchdm.memory import return_freed_memory
from patchdm.sampling.generate import draw_group, group_size, model_hash
from patchdm.sampling.solve import Predict
from patchdm.sampling.solvers import solver
from patchdm.sampling.tilings import Step

OF_STUDIO = {"image", "mask"}
"""Of a request, what means nothing elsewhere: ids of uploads."""
PREVIEW_SIDE = 768
"""Longest side of a preview, in pixels."""


class Studio:
    """A loaded model, and the folder of what was made with it.

    Attributes:
        model: a name for commands, such as OWNER/NAME; "" for the bundled model.
        finder: of the photographs that it learnt from; None: they are not known.
        folder: of jobs and uploads.
        size: height and width of its images; of one patch, where the model does not say.
    """

    def __init__(
        self, loaded: Restorer, model: str, folder: Path, images: Images | None = None
    ) -> None:
        self.loaded, self.pipe, self.model, self.folder = loaded, loaded.pipe, model, folder
        self.pipe.set_progress_bar_config(disable=True)
        self.hash = model_hash(self.pipe)
        self._scheduler = self.pipe.scheduler
        p = self.pipe.unet.config.patch_size
        self.size: tuple[int, int] = self.pipe.unet.config.sample_size or (p, p)
        self.finder = None if images is None else Finder(images, self.size)

    def upload(self, name: str) -> Path:
        """Return where an image that was given lies."""
        return self.folder / "uploads" / f"{name}.png"

    def perform(self, asked: Request, job: Job, jobs: Jobs) -> None:
        """Do a job, of which some images may be there already."""
        done = {result.file for result in job.results}

        def keep(number: int, seed: int, pixels: Pixels, command: str) -> None:
            height, width, _ = pixels.shape
            file = f"{number:03d}.png"
            text = {"command": command, "seed": str(seed), "model": self.hash}
            text["parameters"] = asked.model_dump_json(exclude_none=True, exclude=OF_STUDIO)
            save_png(self.folder / job.id / file, pixels, text)
            result = Result(f"{job.id}-{number}", file, seed, width, height, command)
            jobs.finished(job, result)

        left = [n for n in range(job.total) if f"{n:03d}.png" not in done]
        if isinstance(asked, Solving):
            self.pipe.scheduler = self.scheduler(asked)
        ways = {Sample: self._samples, Interpolate: self._explored, Vary: self._explored}
        way: Any = ways.get(type(asked), self._versions)
        watched: Any = self._watched(job, jobs, len(left))
        if isinstance(asked, Panorama):  # which tells of blocks
            way, watched = functools.partial(self._panorama, job, jobs), contextlib.nullcontext()
        try:
            with watched:
                for number, seed, pixels, command in way(asked, left):
                    keep(number, seed, pixels, command)
        finally:
            return_freed_memory()  # a server that waits is small

    def sampling(self, asked: Solving) -> dict[str, Any]:
        """Return the arguments of a call of the pipeline."""
        found = self.loaded.found
        chosen = {
            "num_inference_steps": asked.steps,
            "guidance_scale": asked.guidance,
            "tiling": asked.tiling,
        }
        usual = {"latent_num_inference_steps": 50, "guidance_scale": 0.0, "tiling": "shifted"}
        return usual | found.sample | {k: v for k, v in chosen.items() if v is not None}

    def scheduler(self, asked: Solving) -> Any:
        """Return a solver of its own, so that a request may be checked while a job runs."""
        return solver(self._scheduler, asked.solver or self.loaded.found.solver or "ddim")

    def _samples(self, asked: Any, left: list[int]) -> Iterator[tuple[int, int, Pixels, str]]:
        options = self.sampling(asked) | {"width": asked.width, "height": asked.height}
        # As the command draws them: on a CPU the seeds of a group are computed together.
        on_cpu = self.pipe.device.type == "cpu"
        group = group_size(self.pipe.unet, asked.width) if on_cpu else 1
        waiting = {number: asked.seeds[number] for number in left}
        while waiting:
            first = next(iter(waiting.values())) // group
            numbers = [n for n, seed in waiting.items() if seed // group == first]
            seeds = [waiting.pop(number) for number in numbers]
            with one_thread(small=on_cpu and group > 1):
                drawn = draw_group(group, range(2**64), options, asked.code_seed, self.pipe, seeds)
            for number, seed, pixels in zip(numbers, seeds, drawn, strict=True):
                yield number, seed, pixels, self._command(asked, seed, options)

    def _explored(self, asked: Any, left: list[int]) -> Iterator[tuple[int, int, Pixels, str]]:
        way: Any = between if isinstance(asked, Interpolate) else varied
        for made in way(self.pipe, asked, left, self.size, self.sampling(asked)):
            yield *made, ""  # no command makes it

    def _panorama(
        self, job: Job, jobs: Jobs, asked: Panorama, left: list[int]
    ) -> Iterator[tuple[int, int, Pixels, str]]:
        """Make a panorama as the command does; what a server leaves of it, the next one goes on."""
        if not left:
            return
        options = self.sampling(asked) | {"wrap": asked.wrap}
        seeds = range(asked.first, asked.first + asked.codes)
        size, lattice = {"width": asked.width, "height": asked.height}, {"rows": 1}
        lattice |= {"columns": asked.codes}
        plan = planned(self.pipe, self.loaded.found, size, seeds, lattice, **options)
        clock, work = Clock(plan.blocks), self.folder / job.id / "work"

        def tell(done: int) -> None:
            jobs.told(job, step=done, steps=plan.blocks, seconds_left=clock.at(done))

        try:
            x_0 = plan.made(work, tell)
        except CancelledError:
            shutil.rmtree(work)
            raise
        pixels = to_uint8(x_0[:, :, : asked.height, : asked.width])[0]
        wrap = f" --wrap {asked.wrap}" if asked.wrap != "none" else ""
        command = (
            f"patchdm panorama {self._model()}--size {asked.width}x{asked.height} "
            f"--seeds {seeds.start}:{seeds.stop} {self._solving(asked, options)}{wrap} --out FILE"
        )
        yield 0, seeds.start, pixels, command
        shutil.rmtree(work)

    def _versions(self, asked: Any, left: list[int]) -> Iterator[tuple[int, int, Pixels, str]]:
        image = self.upload(asked.image)
        if isinstance(asked, Inpaint):
            task, verb, more = masked(image, self.upload(asked.mask)), "inpaint", "IMAGE MASK"
        else:
            margins = {side: getattr(asked, side) for side in ("left", "top", "right", "bottom")}
            given = " ".join(f"--{side} {pixels}" for side, pixels in margins.items() if pixels)
            task, verb, more = beyond(image, margins), "outpaint", f"IMAGE {given}"
        named = {"num_inference_steps": asked.steps, "guidance_scale": asked.guidance}
        options = {name: value for name, value in named.items() if value is not None}
        flags = "".join(
            f" {flag} {value}"
            for flag, value in (("--steps", asked.steps), ("--guidance", asked.guidance))
            if value is not None
        ) + (" --native" if asked.native else "")
        for number in left:
            seed = asked.seeds[number]
            pixels = self.loaded.restored(task, seed, native=asked.native, **options)
            command = f"patchdm {verb} {self._model()}{more} --seeds {seed}:{seed + 1}{flags}"
            yield number, seed, pixels, f"{command} --out FILE"

    def _command(self, asked: Sample, seed: int, options: dict[str, Any]) -> str:
        code = "" if asked.code_seed is None else f" --code-seed {asked.code_seed}"
        return (
            f"patchdm sample {self._model()}--seeds {seed}:{seed + 1} "
            f"--size {asked.width}x{asked.height} {self._solving(asked, options)}{code} --out DIR"
        )

    def _solving(self, asked: Solving, options: dict[str, Any]) -> str:
        return (
            f"--solver {asked.solver or self.loaded.found.solver or 'ddim'} "
            f"--steps {options['num_inference_steps']} --guidance {options['guidance_scale']:g} "
            f"--tiling {options['tiling']}"
        )

    def _model(self) -> str:
        return f"{self.model} " if self.model else ""

    @contextlib.contextmanager
    def _watched(self, job: Job, jobs: Jobs, images: int) -> Iterator[None]:
        """Tell a job of every prediction of the network within, with the x_0 that it implies.

        A job that is told to stop does so at the next use of the network, which also fits codes.
        """
        clock: list[Clock] = []
        unwatched, encode = self.pipe.denoiser, self.pipe.unet.encode

        def stoppable(*given: Any, **options: Any) -> Any:
            if job.stop.is_set():
                raise CancelledError
            return encode(*given, **options)

        def denoiser(*given: Any, **options: Any) -> Predict:
            predict, made = unwatched(*given, **options), 0

            def watched(x_t: Tensor, step: Step) -> Tensor:
                nonlocal made
                found = predict(x_t, step)
                made += 1
                if not clock:
                    clock.append(Clock(images * step.count))
                jobs.told(
                    job,
                    step=made,
                    steps=max(step.count, made),
                    seconds_left=clock[0].step(),
                    preview=png(x_0(self.pipe.scheduler, x_t, found, step.t)),
                )
                return found

            return watched

        # Over the methods of the classes, until they are deleted.
        self.pipe.denoiser = denoiser  # type: ignore[assignment, method-assign]
        self.pipe.unet.encode = stoppable
        try:
            yield
        finally:
            del self.pipe.denoiser, self.pipe.unet.encode


def x_0(scheduler: Any, x_t: Tensor, predicted: Tensor, t: Tensor) -> Tensor:
    """Return the image (C, H, W) that a prediction of the first one means (PAPER section 1)."""
    a = scheduler.alphas_cumprod[t.long().cpu()].item()
    signal, noise = a**0.5, (1 - a) ** 0.5
    x, found = x_t[0].float().cpu(), predicted[0].float().cpu()
    if scheduler.config.prediction_type == "v_prediction":
        return signal * x - noise * found
    return (x - noise * found) / signal


def png(image: Tensor) -> bytes:
    """Return an image (3, H, W) as a PNG of at most `PREVIEW_SIDE` pixels."""
    picture = Image.fromarray(to_uint8(image[None])[0])
    picture.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
