"""Real photographs and the extractor that works offline."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from patchdm.metrics.extractors import Extractor, load_extractor


@pytest.fixture(scope="session")
def extractor() -> Extractor:
    return load_extractor("efficientnet-lite0", None, "cpu")


@pytest.fixture(scope="session")
def images(landscapes: Path) -> np.ndarray:
    """24 crops of landscapes, (24, 32, 48, 3) uint8."""
    whole = [np.asarray(Image.open(path)) for path in sorted(landscapes.iterdir())]
    return np.stack([crop for image in whole for crop in (image[:32, :48], image[16:, 48:])])


@pytest.fixture(scope="session")
def features(extractor: Extractor, images: np.ndarray) -> np.ndarray:
    return extractor.features(images).pooled
