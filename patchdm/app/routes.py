"""The studio's HTTP API: images are given, jobs queued, followed and cancelled."""

from __future__ import annotations

import asyncio
import io
import json
import re
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.responses import FileResponse, StreamingResponse

from patchdm.app.jobs import OPEN, Job, Jobs, Result
from patchdm.app.requests import (
    MOST_PIXELS,
    Asked,
    Inpaint,
    Interpolate,
    Outpaint,
    Panorama,
    Sample,
    Vary,
)
from patchdm.app.work import Studio
from patchdm.choices import Solver, Tiling
from patchdm.errors import PatchDMError, one_line
from patchdm.formats.images import opened, read_image, save_png
from patchdm.sampling.blocks import CANVASES
from patchdm.sampling.generate import check_sampling

UPLOAD_BYTES, UPLOAD_PIXELS = 64 * 2**20, 2**26
NAME = re.compile(r"[\w-]{16,64}")
"""Of what was given out: nothing else comes near a path."""
SECONDS_BETWEEN_LOOKS = 0.1

router = APIRouter(prefix="/api")


def _studio(request: Request) -> Studio:
    studio: Studio = request.app.state.studio
    return studio


def _jobs(request: Request) -> Jobs:
    jobs: Jobs = request.app.state.jobs
    return jobs


def _job(job_id: str, request: Request) -> Job:
    job = _jobs(request).get(job_id)
    if job is None:
        raise HTTPException(404, f"job {job_id!r}: not found")
    return job


TheStudio = Annotated[Studio, Depends(_studio)]
TheJobs = Annotated[Jobs, Depends(_jobs)]
TheJob = Annotated[Job, Depends(_job)]


@router.get("/model")
def model(studio: TheStudio) -> dict[str, Any]:
    """What the model is, and what may be asked of it."""
    return about(studio)


@router.post("/images", status_code=201)
async def upload(request: Request, studio: TheStudio) -> dict[str, Any]:
    """Take in an image, of any format that the project reads, as the body."""
    body = await _body(request)
    return await asyncio.to_thread(_taken_in, studio, body)


@router.get("/images/{name}.png")
def uploaded(name: str, studio: TheStudio) -> FileResponse:
    """An image that was taken in, as the model sees it: sRGB."""
    return _image(studio.upload(_checked(name)))


@router.post("/jobs", status_code=202)
def submit(asked: Asked, studio: TheStudio, jobs: TheJobs) -> dict[str, Any]:
    """Queue a job."""
    check(studio, asked)
    return shown(jobs.submit(asked.kind, asked.model_dump(), asked.total), jobs)


@router.get("/jobs")
def everything(jobs: TheJobs) -> dict[str, Any]:
    """All jobs, the newest first."""
    return {"jobs": [shown(job, jobs) for job in jobs.all()]}


@router.get("/jobs/{job_id}")
def one(job: TheJob, jobs: TheJobs) -> dict[str, Any]:
    """How far a job is."""
    return shown(job, jobs)


@router.delete("/jobs/{job_id}")
def cancel(job: TheJob, jobs: TheJobs) -> dict[str, Any]:
    """Stop a job, within a step."""
    jobs.cancel(job)
    return shown(job, jobs)


@router.get("/jobs/{job_id}/events")
async def events(job: TheJob, jobs: TheJobs) -> StreamingResponse:
    """A job whenever it changes, until it ends."""
    return StreamingResponse(_events(job, jobs), media_type="text/event-stream")


@router.get("/jobs/{job_id}/preview.png")
def preview(job: TheJob) -> Response:
    """What the image at work would be if the network were right at this step."""
    if job.preview is None:  # a page that asks a moment too late has made no mistake
        return Response(status_code=204)
    return Response(job.preview, media_type="image/png")


@router.get("/jobs/{job_id}/{number}.png")
def image(job: TheJob, jobs: TheJobs, number: int) -> FileResponse:
    """An image that a job made."""
    for result in job.results:
        if result.id == f"{job.id}-{number}":
            return _image(jobs.path(job, result))
    raise HTTPException(404, f"image {number}: not found")


def about(studio: Studio) -> dict[str, Any]:
    """Return what the page says of the model and offers."""
    config, found = studio.pipe.unet.config, studio.loaded.found
    height, width = studio.size
    return {
        "name": studio.model or "bundled",
        "width": width,
        "height": height,
        "patch_size": config.patch_size,
        "device": studio.pipe.device.type,
        "solvers": get_args(Solver),
        "tilings": get_args(Tiling),
        "defaults": {
            "solver": found.solver or "ddim",
            "steps": found.sample["num_inference_steps"],
            "guidance": found.sample.get("guidance_scale", 0.0),
            "tiling": found.sample.get("tiling", "shifted"),
        },
        "guidance": bool(config.unconditional),
        "code": studio.pipe.latent is not None,
        "limit_pixels": MOST_PIXELS,
        "upload_bytes": UPLOAD_BYTES,
    }


def check(studio: Studio, asked: Any) -> None:
    """Refuse a job before it waits.

    Raises:
        HTTPException: a value does not fit.
    """
    if isinstance(asked, Sample | Interpolate | Vary | Panorama):
        _check_sampling(studio, asked)
        return
    if isinstance(asked, Outpaint) and not any((asked.left, asked.top, asked.right, asked.bottom)):
        raise HTTPException(422, "left, top, right, bottom: found 0, expected one above 0")
    names = [asked.image, *([asked.mask] if isinstance(asked, Inpaint) else [])]
    for name in names:
        if not studio.upload(_checked(name)).is_file():
            raise HTTPException(404, f"image {name!r}: not found")


def _check_sampling(studio: Studio, asked: Sample | Interpolate | Vary | Panorama) -> None:
    """Refuse what the pipeline would refuse."""
    unet, scheduler = studio.pipe.unet, studio.scheduler(asked)
    options = studio.sampling(asked)
    height, width = studio.size
    if isinstance(asked, Sample | Panorama):
        height, width = asked.height, asked.width
    elif studio.pipe.latent is None:
        raise HTTPException(422, f"{asked.kind}: found a model without codes")
    if width * height > MOST_PIXELS:
        raise HTTPException(422, f"size: found {width}x{height}, expected {MOST_PIXELS} pixels")
    if isinstance(asked, Panorama):
        p = unet.config.patch_size  # what is beyond the size is cut off
        height, width, options["wrap"] = -(-height // p) * p, -(-width // p) * p, asked.wrap
        if type(scheduler) not in CANVASES:
            raise HTTPException(422, f"solver: found {asked.solver}, expected ddim or dpm-solver++")
    parts = SimpleNamespace(unet=unet, latent=studio.pipe.latent, scheduler=scheduler)
    try:
        check_sampling(parts, height=height, width=width, **options)
    except ValueError as error:
        raise HTTPException(422, one_line(error)) from None


def shown(job: Job, jobs: Jobs) -> dict[str, Any]:
    """Return a job as the page sees it."""
    url = f"/api/jobs/{job.id}"
    found = {name: getattr(job, name) for name in ("step", "steps", "seconds_left")} | job.record()
    results = [_result(result, url) for result in job.results]
    preview = f"{url}/preview.png?{job.version}" if job.preview and job.state == "running" else None
    more = {"place": jobs.place(job), "done": len(results), "preview": preview, "results": results}
    return found | more


def _result(result: Result, url: str) -> dict[str, Any]:
    number = result.id.rsplit("-", 1)[1]
    names = "id", "seed", "width", "height", "command"
    return {name: getattr(result, name) for name in names} | {"url": f"{url}/{number}.png"}


async def _events(job: Job, jobs: Jobs) -> AsyncIterator[str]:
    seen = None
    while True:
        state = job.version, jobs.place(job)
        if state != seen:
            seen = state
            yield f"data: {json.dumps(shown(job, jobs))}\n\n"
            if job.state not in OPEN:
                return
        await asyncio.sleep(SECONDS_BETWEEN_LOOKS)


async def _body(request: Request) -> bytes:
    """Read a body, but not more than may be."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > UPLOAD_BYTES:
            raise HTTPException(413, f"image: found more than {UPLOAD_BYTES >> 20} MB, the limit")
    return bytes(body)


def _taken_in(studio: Studio, body: bytes) -> dict[str, Any]:
    """Write an image as PNG in sRGB."""
    try:
        with opened(io.BytesIO(body), "image") as found:
            width, height = found.size
        if width * height > UPLOAD_PIXELS:
            raise HTTPException(
                413, f"image: found {width} x {height} pixels, the limit is {UPLOAD_PIXELS} in all"
            )
        pixels = read_image(io.BytesIO(body), "image")
    except PatchDMError as error:
        raise HTTPException(415, one_line(error)) from None
    name = secrets.token_urlsafe(16)
    path = studio.upload(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_png(path, pixels)
    height, width, _ = pixels.shape
    return {"id": name, "width": width, "height": height, "url": f"/api/images/{name}.png"}


def _checked(name: str) -> str:
    if not NAME.fullmatch(name):
        raise HTTPException(404, f"image {name[:64]!r}: not found")
    return name


def _image(path: Path) -> FileResponse:
    if not path.is_file():
        raise HTTPException(404, "image: not found")
    cached = {"Cache-Control": "private, max-age=31536000, immutable"}
    return FileResponse(path, media_type="image/png", headers=cached)
