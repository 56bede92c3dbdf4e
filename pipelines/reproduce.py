"""Flow reproduce: `dvc repro`, stage by stage, independent stages at the same time."""

from __future__ import annotations

import sys

from prefect import flow

from pipelines.command import main
from pipelines.engine import bring_up_to_date
from pipelines.place import Place


@flow(name="reproduce", persist_result=False)
def reproduce(up_to: list[str] | None = None, place: Place = Place()) -> None:  # noqa: B008
    """Bring stages up to date.

    Args:
        up_to: stages of dvc.yaml, with all stages that they read from; null: every stage. The name
            of a matrix means all its stages.
        place: where stages run and how many at a time.
    """
    bring_up_to_date(up_to or [], place)


if __name__ == "__main__":
    main(reproduce, sys.argv[1:])
