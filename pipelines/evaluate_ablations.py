"""Flow evaluate-ablations: every variant at every seed, then the tables that compare them."""

from __future__ import annotations

import sys

from prefect import flow

from pipelines.command import main
from pipelines.engine import bring_up_to_date
from pipelines.place import Place

CELLS = "ablate_evaluate"
TABLES = "tables"


@flow(name="evaluate-ablations", persist_result=False)
def evaluate_ablations(place: Place = Place()) -> None:  # noqa: B008
    """Train, sample and evaluate the cells of `ablation` in params.yaml, then make the tables.

    Args:
        place: where stages run and how many at a time.
    """
    bring_up_to_date([CELLS, TABLES], place)


if __name__ == "__main__":
    main(evaluate_ablations, sys.argv[1:])
