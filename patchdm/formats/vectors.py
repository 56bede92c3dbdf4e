"""One vector per image in a parquet file: backbone features and global codes.

Columns: `image`, the row in the patch store, and `vector`, a list of `dim` float32. The metadata of
the parquet schema names the origin of the vectors (backbone, hash of its weights).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from patchdm.errors import PatchDMError
from patchdm.files import replacing


def write_vectors(
    path: Path, images: np.ndarray, vectors: np.ndarray, metadata: Mapping[str, str]
) -> None:
    """Write vectors; equal input gives equal bytes.

    Args:
        images: (n,) int, rows in the patch store.
        vectors: (n, dim) float.

    Raises:
        ValueError: images and vectors differ in length.
    """
    if vectors.ndim != 2 or len(images) != len(vectors):
        raise ValueError(f"found {vectors.shape} vectors, expected ({len(images)}, dim)")
    values = pa.array(vectors.astype(np.float32, copy=False).ravel())
    table = pa.table(
        {
            "image": pa.array(images, pa.int64()),
            "vector": pa.FixedSizeListArray.from_arrays(values, vectors.shape[1]),
        }
    )
    with replacing(path) as fresh:
        pq.write_table(table.replace_schema_metadata(dict(sorted(metadata.items()))), fresh)


def read_vectors(path: Path) -> tuple[np.ndarray, np.ndarray, dict[str, str]]:
    """Return images (n,) int64, vectors (n, dim) float32 and the metadata.

    Raises:
        PatchDMError: the file is missing or not one of `write_vectors`.
    """
    if not path.is_file():
        raise PatchDMError(f"{path}: not found, run the stage that writes it (`dvc repro`)")
    try:
        table = pq.read_table(path, columns=["image", "vector"])
        column = table["vector"].combine_chunks()
        dim = column.type.list_size
        vectors = column.flatten().to_numpy().reshape(-1, dim)
    except (pa.ArrowException, OSError, AttributeError):
        raise PatchDMError(
            f"{path}: not a table of vectors, expected the columns image and vector"
        ) from None
    metadata = table.schema.metadata or {}
    known = {key.decode(): value.decode() for key, value in metadata.items()}
    return table["image"].to_numpy(), vectors, known
