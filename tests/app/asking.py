"""Asking the studio's server."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from starlette.testclient import TestClient


def posted(client: TestClient, job: dict[str, Any]) -> dict[str, Any]:
    """Queue a job."""
    response = client.post("/api/jobs", json=job)
    assert response.status_code == 202, response.text
    found: dict[str, Any] = response.json()
    return found


def ended(client: TestClient, job: dict[str, Any]) -> dict[str, Any]:
    """Return a job when it has ended."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        found: dict[str, Any] = client.get(f"/api/jobs/{job['id']}").json()
        if found["state"] not in ("queued", "running"):
            return found
        time.sleep(0.02)
    raise AssertionError(found)


def given(client: TestClient, file: str | bytes) -> str:
    """Upload an image; return its id."""
    content = file if isinstance(file, bytes) else Path(file).read_bytes()
    response = client.post("/api/images", content=content)
    assert response.status_code == 201, response.text
    name: str = response.json()["id"]
    return name


def pixels(client: TestClient, url: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(client.get(url).content)).convert("RGB"))
