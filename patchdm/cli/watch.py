"""`patchdm watch`: a page that follows a training until it ends."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from patchdm.config import load_params
from patchdm.errors import PatchDMError
from patchdm.files import replacing
from patchdm.report.live import Training, render, trainings

PAGE = Path("reports/live/index.html")
"""Below the folder of a run. No stage writes there, and Git and DVC pass it over."""
GRACE = 120.0
"""Seconds in which the next training begins, or a killed one again."""


def watch(run: Path, seconds: float) -> Iterator[str]:
    """Write the page every so many seconds until the trainings of a run end; say what changes.

    Raises:
        PatchDMError: its params.yaml is wrong.
    """
    params, page = load_params(run / "params.yaml"), run / PAGE
    found, last, ran, idle = list[Training](), "", False, 0.0
    while True:
        found = trainings(run, params, found)
        over = _are_over(found, coded=params.model.code != "none")
        running = any(each.running for each in found)
        ran, idle = ran or running, 0.0 if running else idle + seconds
        over = over or (ran and idle > GRACE)
        try:
            text = render(run, found, 0 if over else seconds)
        except PatchDMError as error:  # a curve is just being written
            if over:
                raise
            yield f"{error}, again in {seconds:g} s"
        else:
            with replacing(page) as fresh:
                fresh.write_text(text, encoding="utf-8")
            state = "; ".join(f"{each.stage}: {each.pace()}" for each in found)
            if state != last:
                yield state or "no training has begun yet"
                last = state
        if over:
            return
        time.sleep(seconds)


def _are_over(found: Sequence[Training], *, coded: bool) -> bool:
    """Say whether all trainings of a run are done, and none runs."""
    return len(found) == 1 + coded and all(each.done and not each.running for each in found)
