"""What many tests share: a scratch folder, a few real photographs, one thread."""

from __future__ import annotations

from pathlib import Path
from zipfile import ZipFile

import pytest
import torch
from PIL import Image

REPO = Path(__file__).parents[1]

torch.set_num_threads(1)  # the machine is shared with the other test processes


@pytest.fixture
def tmp_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def landscapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 12 bundled landscapes, as JPEGs of 96x48 pixels."""
    folder = tmp_path_factory.mktemp("landscapes")
    with ZipFile(REPO / "data/bundled/landscapes-512x256.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
        for name in names[:12]:
            with archive.open(name) as file:
                image = Image.open(file).resize((96, 48))
            image.save(folder / Path(name).name, quality=90)
    return folder
