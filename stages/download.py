"""Bring in the photographs: data.source -> data/raw/."""

from __future__ import annotations

import shutil
from pathlib import Path

from patchdm.config import Params
from patchdm.console import progress, warn
from patchdm.errors import PatchDMError
from patchdm.fetch.fetch import fetch
from patchdm.fetch.local import look
from patchdm.fetch.sources import open_source
from patchdm.fetch.sources.listing import Workspace
from patchdm.formats.raw import OUTCOMES
from stages._common import RAW, SOURCE, run_stage, state_dir
from stages._outputs import writing


def download(params: Params) -> None:
    """Write every photograph of the source, checked, and its tables to data/raw/.

    What has arrived lies in the state folder until all is there, so that a killed download goes
    on; data/raw then holds the same files under their names.
    """
    data = params.data
    listed = look(data)
    if SOURCE.exists() and SOURCE.read_text() != listed:
        raise PatchDMError(
            f"data.location: {data.location} has changed since {SOURCE} was written, "
            "run `dvc repro download`"
        )
    with state_dir("download", params, []) as folder:
        workspace = Workspace(Path(), folder / "files", params.machine.transfers, progress)
        with (
            open_source(data, workspace) as listing,
            progress("download", listing.total, "photographs") as show,
            writing(RAW) as raw,
        ):
            if listing.passed_over:
                warn(f"{data.location}: {listing.passed_over}")
            left_out = fetch(listing, raw, damaged_fraction=data.damaged_fraction, report=show)
            if look(data) != listed:
                raise PatchDMError(
                    f"data.location: {data.location} changed while it was read, run the same "
                    "command again"
                )
        shutil.rmtree(workspace.state, ignore_errors=True)
    if left_out:
        warn(f"{left_out} of {listing.total} photographs left out, {RAW / OUTCOMES} says why")


if __name__ == "__main__":
    run_stage(download)
