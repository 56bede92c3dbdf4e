"""The studio's HTTP API: images are given, jobs queued, followed and cancelled."""

from __future__ import annotations

import asyncio
import io
import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.responses import FileResponse, StreamingResponse

from patchdm.app import answers
from patchdm.app.answers import problems
from patchdm.app.checks import check, checked_name
from patchdm.app.jobs import OPEN, Job, Jobs, Result
from patchdm.app.requests import MOST_PIXELS, Asked
from patchdm.app.training import can_draw
from patchdm.app.work import Studio
from patchdm.choices import Solver, Tiling
from patchdm.errors import PatchDMError, one_line
from patchdm.formats.images import opened, read_image, save_png

UPLOAD_BYTES, UPLOAD_PIXELS = 64 * 2**20, 2**26
SECONDS_BETWEEN_LOOKS = 0.1

WITHOUT = (
    "model: came without its photographs; `patchdm app --photographs FOLDER` says where they are"
)
NO_CURVES = "training: found no matplotlib, `pip install 'patchdm[pipeline]'`"
PNG: dict[str, Any] = {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}

router = APIRouter(
    prefix="/api",
    responses=problems(
        _401="the token is missing, on another address than loopback",
        _403="asked by the page of another site",
        _421="asked under another name than the studio's",
        _422="a value does not fit",
    ),
)


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
NO_JOB = problems(_404="no such job")


@router.get("/model", response_model=answers.Model)
def model(studio: TheStudio) -> dict[str, Any]:
    """What the model is, and what may be asked of it."""
    return about(studio)


@router.post(
    "/images",
    status_code=201,
    response_model=answers.Uploaded,
    responses=problems(_413="too many bytes or pixels", _415="no image that can be read"),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": PNG["content"]["image/png"]},
        }
    },
)
async def upload(request: Request, studio: TheStudio) -> dict[str, Any]:
    """Take in an image, of any format that the project reads, as the body."""
    body = await _body(request)
    return await asyncio.to_thread(_taken_in, studio, body)


@router.get(
    "/images/{name}.png",
    response_class=FileResponse,
    responses=problems(_404="no such image") | {200: PNG},
)
def uploaded(name: str, studio: TheStudio) -> FileResponse:
    """An image that was taken in, as the model sees it: sRGB."""
    return _image(studio.upload(checked_name(name)))


@router.post(
    "/jobs",
    status_code=202,
    response_model=answers.Job,
    responses=problems(_404="no such image or mask", _429="the queue is full"),
)
def submit(asked: Asked, studio: TheStudio, jobs: TheJobs) -> dict[str, Any]:
    """Queue a job."""
    check(studio, asked)
    return shown(jobs.submit(asked.kind, asked.model_dump(), asked.total), jobs)


@router.get("/jobs", response_model=answers.Jobs)
def everything(jobs: TheJobs) -> dict[str, Any]:
    """All jobs, the newest first."""
    return {"jobs": [shown(job, jobs) for job in jobs.all()]}


@router.get("/jobs/{job_id}", response_model=answers.Job, responses=NO_JOB)
def one(job: TheJob, jobs: TheJobs) -> dict[str, Any]:
    """How far a job is."""
    return shown(job, jobs)


@router.delete("/jobs/{job_id}", response_model=answers.Job, responses=NO_JOB)
def cancel(job: TheJob, jobs: TheJobs) -> dict[str, Any]:
    """Stop a job, within a step."""
    jobs.cancel(job)
    return shown(job, jobs)


@router.get(
    "/jobs/{job_id}/events",
    response_class=StreamingResponse,
    responses=NO_JOB | {200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def events(job: TheJob, jobs: TheJobs) -> StreamingResponse:
    """A job whenever it changes, until it ends: lines of `data:`, each with a job as JSON."""
    return StreamingResponse(_events(job, jobs), media_type="text/event-stream")


@router.get(
    "/jobs/{job_id}/preview.png",
    response_class=Response,
    responses=NO_JOB | {200: PNG, 204: {"description": "There is none at the moment"}},
)
def preview(job: TheJob) -> Response:
    """What the image at work would be if the network were right at this step."""
    if job.preview is None:  # a page that asks a moment too late has made no mistake
        return Response(status_code=204)
    return Response(job.preview, media_type="image/png")


@router.get(
    "/jobs/{job_id}/{number}.png",
    response_class=FileResponse,
    responses=problems(_404="no such image") | {200: PNG},
)
def image(job: TheJob, jobs: TheJobs, number: int) -> FileResponse:
    """An image that a job made; seed, parameters, command and model stand in its text chunks."""
    return _image(_path(job, jobs, number))


@router.get(
    "/jobs/{job_id}/{number}/nearest",
    response_model=answers.Nearest,
    responses=problems(_404="no such image, or the model came without its photographs"),
)
async def nearest(
    job: TheJob, jobs: TheJobs, number: int, studio: TheStudio, request: Request
) -> dict[str, Any]:
    """The photographs of the training that an image is nearest to, by pixels of thumbnails."""
    path, finder = _path(job, jobs, number), studio.finder
    if finder is None:
        raise HTTPException(404, WITHOUT)
    async with request.app.state.finding:  # one at a time, without a thread for each that waits
        try:
            found = await asyncio.to_thread(lambda: finder.near(read_image(path, "image")))
        except PatchDMError as error:
            raise HTTPException(404, one_line(error)) from None
    return asdict(found)


@router.get(
    "/training",
    response_model=answers.Trainings,
    responses=problems(_404="the extra `pipeline` is not installed"),
)
async def trainings(studio: TheStudio, request: Request) -> dict[str, Any]:
    """How far the trainings of the run are that the studio, or its model, is in."""
    if not can_draw():
        raise HTTPException(404, NO_CURVES)
    async with request.app.state.looking:
        return await asyncio.to_thread(studio.trainings.look)


@router.get(
    "/training/{stage}/{name}.png",
    response_class=Response,
    responses=problems(_404="no such picture") | {200: PNG},
)
def training_picture(stage: str, name: str, studio: TheStudio) -> Response:
    """Curves of a training, or its newest sheet of samples, as they last were."""
    found = studio.trainings.png(stage, name)
    if found is None:
        raise HTTPException(404, "picture: not found")
    return Response(found, media_type="image/png")


def _path(job: Job, jobs: Jobs, number: int) -> Path:
    """Return where an image of a job lies."""
    for result in job.results:
        if result.id == f"{job.id}-{number}":
            return jobs.path(job, result)
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
        "field": studio.loaded.drifts,
        "photographs": studio.finder is not None,
        "training": can_draw(),
        "limit_pixels": MOST_PIXELS,
        "upload_bytes": UPLOAD_BYTES,
    }


def shown(job: Job, jobs: Jobs) -> dict[str, Any]:
    """Return a job as the page sees it."""
    url = f"/api/jobs/{job.id}"
    found = {
        name: getattr(job, name) for name in ("phase", "step", "steps", "seconds_left")
    } | job.record()
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


def _image(path: Path) -> FileResponse:
    if not path.is_file():
        raise HTTPException(404, "image: not found")
    cached = {"Cache-Control": "private, max-age=31536000, immutable"}
    return FileResponse(path, media_type="image/png", headers=cached)
