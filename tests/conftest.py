"""What many tests share: a scratch folder, a few real photographs, one thread."""

from __future__ import annotations

import json
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch
from PIL import Image

from tests.photographs import BUNDLED

REPO = Path(__file__).parents[1]

torch.set_num_threads(1)  # the machine is shared with the other test processes


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest test, or at the end all other processes wait for it."""
    items.sort(key=lambda item: item.path.name != "test_smoke.py")


@pytest.fixture
def tmp_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def landscapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 12 bundled landscapes, as JPEGs of 96x48 pixels."""
    folder = tmp_path_factory.mktemp("landscapes")
    with ZipFile(BUNDLED) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
        for name in names[:12]:
            with archive.open(name) as file:
                image = Image.open(file).resize((96, 48))
            image.save(folder / Path(name).name, quality=90)
    return folder


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the smallest CLIP, which open_clip knows as tiny-vit."""
    import open_clip  # noqa: PLC0415 - slow, and few tests need it

    folder = tmp_path_factory.mktemp("open_clip")
    config = {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 4, "vocab_size": 16, "width": 16, "heads": 2, "layers": 1},
    }
    (folder / "tiny-vit.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder / "tiny-vit.json")
    torch.manual_seed(0)
    path = folder / "tiny-vit.pt"
    torch.save(open_clip.create_model("tiny-vit").state_dict(), path)
    return path
