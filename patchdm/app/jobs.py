"""The queue of the studio: one job at a time, each with a folder that outlives the server."""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from patchdm.errors import MISTAKES, PatchDMError, mistake
from patchdm.files import replacing

log = logging.getLogger(__name__)

RECORD = "job.json"
MOST_WAITING = 1000
OPEN = "queued", "running"
"""States that a job goes on from."""


class CancelledError(Exception):
    """A job was told to stop."""


@dataclass
class Result:
    """An image of a job: `file` in its folder, known outside by `id`."""

    id: str
    file: str
    seed: int
    width: int
    height: int
    command: str


@dataclass
class Job:
    """What was asked for, and how far it is; `version` grows with every change.

    Phase "fit" is that in which a code is fitted to a photograph, whose steps are told then; in ""
    an image is made.
    """

    id: str
    kind: str
    request: dict[str, Any]
    total: int
    created: str
    state: str = "queued"
    error: str | None = None
    results: list[Result] = field(default_factory=list)
    phase: str = ""
    step: int = 0
    steps: int = 0
    seconds_left: float | None = None
    preview: bytes | None = None
    version: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def record(self) -> dict[str, Any]:
        """Return what is kept of it."""
        names = "id", "kind", "request", "total", "created", "state", "error"
        return {name: getattr(self, name) for name in names} | {
            "results": [asdict(result) for result in self.results]
        }


Work = Callable[["Job", "Jobs"], None]
"""Does a job: adds results, tells steps, and leaves by `CancelledError` once `job.stop` is set."""


class Jobs:
    """All jobs of a folder, and the thread that does them one after another.

    A server that ends leaves finished images where they are; the next one goes on with what was
    queued or at work.
    """

    def __init__(self, folder: Path, work: Work) -> None:
        self.folder, self._work = folder, work
        self._changed = threading.Condition()
        self._jobs: dict[str, Job] = {}
        for path in sorted(folder.glob(f"*/{RECORD}")):
            job = _read(path)
            if job is not None:
                self._jobs[job.id] = job
        self._jobs = dict(sorted(self._jobs.items(), key=lambda item: item[1].created))
        threading.Thread(target=self._run, daemon=True, name="jobs").start()

    def submit(self, kind: str, request: dict[str, Any], total: int) -> Job:
        """Queue a job.

        Raises:
            PatchDMError: too many wait.
        """
        with self._changed:
            if sum(job.state in OPEN for job in self._jobs.values()) >= MOST_WAITING:
                raise PatchDMError(f"found {MOST_WAITING} jobs in the queue, expected fewer: wait")
            created = datetime.now(UTC).isoformat(timespec="microseconds")
            job = Job(secrets.token_urlsafe(16), kind, request, total, created)
            (self.folder / job.id).mkdir(parents=True)
            self._jobs[job.id] = job
            self._keep(job)
            return job

    def cancel(self, job: Job) -> None:
        """Stop a job within its step, or before it begins."""
        with self._changed:
            job.stop.set()
            if job.state == "queued":
                job.state = "cancelled"
                self._keep(job)

    def get(self, id_: str) -> Job | None:
        """Return a job."""
        return self._jobs.get(id_)

    def all(self) -> list[Job]:
        """Return all jobs, the newest first."""
        with self._changed:
            return list(reversed(self._jobs.values()))

    def place(self, job: Job) -> int:
        """Return how many jobs come before one."""
        with self._changed:
            waiting = [other.id for other in self._jobs.values() if other.state in OPEN]
        return waiting.index(job.id) if job.id in waiting else 0

    def told(self, job: Job, **changes: Any) -> None:
        """Note progress, which is not kept on disk.

        Raises:
            CancelledError: the job was told to stop.
        """
        if job.stop.is_set():
            raise CancelledError
        for name, value in changes.items():
            setattr(job, name, value)
        job.version += 1

    def finished(self, job: Job, result: Result) -> None:
        """Note an image that lies in the job's folder."""
        with self._changed:
            job.results.append(result)
            self._keep(job)

    def path(self, job: Job, result: Result) -> Path:
        """Return where an image lies."""
        return self.folder / job.id / result.file

    def _keep(self, job: Job) -> None:
        job.version += 1
        with replacing(self.folder / job.id / RECORD) as fresh:
            fresh.write_text(json.dumps(job.record(), indent=2) + "\n")
        self._changed.notify_all()

    def _next(self) -> Job:
        with self._changed:
            while (job := self._waiting()) is None:
                self._changed.wait()
            for other in self._jobs.values():
                other.preview = None  # until now a page might still ask for the last one
            job.state = "running"
            self._keep(job)
            return job

    def _waiting(self) -> Job | None:
        return next((job for job in self._jobs.values() if job.state == "queued"), None)

    def _run(self) -> None:
        while True:
            job = self._next()
            state, error = "done", None
            try:
                self._work(job, self)
            except CancelledError:
                state = "cancelled"
            except MISTAKES as found:
                line = mistake(found) or str(found)
                state, error = "failed", line.replace(f"{self.folder}/", "")  # of this machine
            except Exception:  # the next job goes on
                log.exception("job %s", job.id)
                state, error = "failed", "an unexpected error; the server's log has it"
            with self._changed:
                job.state, job.error, job.phase, job.seconds_left = state, error, "", None
                self._keep(job)


def _read(path: Path) -> Job | None:
    """Return a job of a folder, to go on where it was at work; None: it is no job of ours."""
    try:
        found = json.loads(path.read_text())
        results = [Result(**result) for result in found.pop("results")]
        job = Job(**found, results=results)
    except (OSError, ValueError, TypeError, KeyError) as error:
        log.warning("warning: %s: passed over: %s", path, error)
        return None
    job.results = [result for result in results if (path.parent / result.file).is_file()]
    if job.state in OPEN:
        job.state = "queued"
    return job


class Clock:
    """Time left, by the steps that were made."""

    def __init__(self, steps: int) -> None:
        self.steps, self._start = steps, time.monotonic()
        self._there: int | None = None  # at the first look

    def at(self, made: int) -> float | None:
        """Return the seconds left after so many steps; None: none was made since the start."""
        if self._there is None:
            self._there, self._start = made, time.monotonic()
        if made == self._there:
            return None
        each = (time.monotonic() - self._start) / (made - self._there)
        return max(0.0, each * (self.steps - made))
