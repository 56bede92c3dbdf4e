"""Flow reproduce: `dvc repro`, stage by stage, independent stages at the same time."""

from __future__ import annotations

import sys

from prefect import flow

from pipelines.command import main
from pipelines.engine import bring_up_to_date
from pipelines.orphans import begin
from pipelines.place import Place
from pipelines.workspace import has_remote, preset_params, published


@flow(name="reproduce", persist_result=False)
def reproduce(
    up_to: list[str] | None = None,
    preset: str | None = None,
    place: Place = Place(),  # noqa: B008
) -> None:
    """Bring stages up to date.

    Args:
        up_to: stages of dvc.yaml, with all stages that they read from; null: every stage. The name
            of a matrix means all its stages.
        preset: of presets/, run in a clone of its own (.state/NAME); its results are copied to
            reports/NAME. null: params.yaml, here.
        place: where stages run and how many at a time.
    """
    if preset is None:
        bring_up_to_date(up_to or [], place)
        return
    here = begin()
    text, _ = preset_params(here, preset, {})
    with published(here, preset, text) as folder:
        bring_up_to_date(up_to or [], place, folder, pull=has_remote(folder))


if __name__ == "__main__":
    main(reproduce, sys.argv[1:])
