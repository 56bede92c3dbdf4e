"""How the studio does its jobs: by the functions of the commands, and seen at each step."""

from __future__ import annotations

import contextlib
import functools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from patchdm.app.explore import between, varied
from patchdm.app.jobs import CancelledError, Clock, Job, Jobs, Result
from patchdm.app.nearest import Finder
from patchdm.app.photographs import Images
from patchdm.app.requests import Inpaint, Interpolate, Panorama, Request, Sample, Solving, Vary
from patchdm.app.training import Trainings
from patchdm.app.watch import fitted, watched
from patchdm.cli.codes import Show
from patchdm.cli.panorama import planned
from patchdm.cli.restore import Restorer, beyond, masked
from patchdm.devices import one_thread
from patchdm.formats.images import Pixels, save_png
from patchdm.formats.tensors import to_uint8
from patchdm.memory import return_freed_memory
from patchdm.sampling.seeds import draw_group, group_size, model_hash
from patchdm.sampling.solvers import solver

OF_STUDIO = {"image", "mask"}
"""Of a request, what means nothing elsewhere: ids of uploads."""


class Studio:
    """A loaded model, and the folder of what was made with it.

    Attributes:
        model: a name for commands, such as OWNER/NAME; "" for the bundled model.
        finder: of the photographs that it learnt from; None: they are not known.
        trainings: those of the run that it is in, or its model.
        folder: of jobs and uploads.
        size: height and width of its images; of one patch, where the model does not say.
    """

    def __init__(
        self,
        loaded: Restorer,
        model: str,
        folder: Path,
        images: Images | None = None,
        run: Path | None = None,
    ) -> None:
        self.loaded, self.pipe, self.model, self.folder = loaded, loaded.pipe, model, folder
        self.pipe.set_progress_bar_config(disable=True)
        self.hash = model_hash(self.pipe)
        self._scheduler = self.pipe.scheduler
        p = self.pipe.unet.config.patch_size
        self.size: tuple[int, int] = self.pipe.unet.config.sample_size or (p, p)
        self.finder = None if images is None else Finder(images, self.size)
        self.trainings = Trainings(run)

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
        versions = functools.partial(self._versions, functools.partial(fitted, job, jobs))
        way: Any = ways.get(type(asked), versions)
        self._row = 0
        seen: Any = watched(self.pipe, job, jobs, self._rounds(asked, left), lambda: self._row)
        if isinstance(asked, Panorama):  # which tells of blocks
            way, seen = functools.partial(self._panorama, job, jobs), contextlib.nullcontext()
        try:
            with seen:
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

    def _group(self, asked: Sample) -> int:
        """Return how many seeds are computed together: on a CPU as many as by the command."""
        return group_size(self.pipe.unet, asked.width) if self.pipe.device.type == "cpu" else 1

    def _rounds(self, asked: Request, left: list[int]) -> int:
        """Return how often the steps are gone through."""
        if not isinstance(asked, Sample):
            return len(left)
        return len({asked.seeds[number] // self._group(asked) for number in left})

    def _samples(self, asked: Any, left: list[int]) -> Iterator[tuple[int, int, Pixels, str]]:
        options = self.sampling(asked) | {"width": asked.width, "height": asked.height}
        group = self._group(asked)
        waiting = {number: asked.seeds[number] for number in left}
        while waiting:
            first = next(iter(waiting.values())) // group
            numbers = [n for n, seed in waiting.items() if seed // group == first]
            seeds = [waiting.pop(number) for number in numbers]
            self._row = seeds[0] % group
            with one_thread(small=group > 1):
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

    def _versions(
        self, show_fit: Show, asked: Any, left: list[int]
    ) -> Iterator[tuple[int, int, Pixels, str]]:
        image = self.upload(asked.image)
        if isinstance(asked, Inpaint):
            task, verb, more = masked(image, self.upload(asked.mask)), "inpaint", "IMAGE MASK"
        else:
            margins = {side: getattr(asked, side) for side in ("left", "top", "right", "bottom")}
            given = " ".join(f"--{side} {pixels}" for side, pixels in margins.items() if pixels)
            task, verb, more = beyond(image, margins), "outpaint", f"IMAGE {given}"
        names = {"steps": "num_inference_steps", "guidance": "guidance_scale", "code": "code"}
        chosen = asked.model_dump(include=set(names), exclude_none=True)
        options = {names[name]: value for name, value in chosen.items()}
        flags = "".join(f" --{name} {value}" for name, value in chosen.items())
        flags += " --native" if asked.native else ""
        self.loaded.needed(task, native=asked.native, **options)  # which refuses too much
        options |= {"native": asked.native, "show_fit": show_fit}
        for number in left:
            seed = asked.seeds[number]
            pixels = self.loaded.restored(task, seed, **options)
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
