"""From photographs to images of one size."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from patchdm.data.images import Pixels, fit, read_image


def extract(raw: Path, plan: pd.DataFrame, width: int, height: int) -> Iterator[Pixels]:
    """Yield the images of a plan in its order, uint8 (height, width, 3).

    A mirror image follows its original (see `plan_images`), so each photograph is decoded once.
    """
    image = np.empty((0, 0, 3), np.uint8)
    for source, flipped in zip(plan["source"], plan["flipped"], strict=True):
        image = image[:, ::-1] if flipped else fit(read_image(raw / source), width, height)
        yield image
