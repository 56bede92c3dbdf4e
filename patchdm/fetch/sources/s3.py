"""The objects under a prefix of an S3 bucket, of Amazon's or any other server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import boto3
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, FlexibleChecksumError
from urllib3.exceptions import HTTPError

from patchdm.config.data import Data
from patchdm.errors import PatchDMError, one_line
from patchdm.fetch.arrival import MAX_BYTES
from patchdm.fetch.names import PassedOver
from patchdm.fetch.sources.listing import Listed, Listing, Workspace, at_once

RETRIES = {"mode": "standard", "max_attempts": 12}
ERRORS = (BotoCoreError, Boto3Error, ClientError, HTTPError)
TRANSFER = TransferConfig(use_threads=False, num_download_attempts=12, max_io_queue=16)
"""One thread per object, many objects at the same time; large ones in ranges."""
_TRIES = 5
"""How often an object of wrong length or checksum is fetched, which no library repeats."""


@contextmanager
def open_listing(data: Data, workspace: Workspace) -> Iterator[Listing]:
    """Yield every photograph under `s3://bucket/prefix`, in the order of keys."""
    match = re.fullmatch(r"s3://([^/]+)(?:/(.*))?", data.location)
    if not match:
        raise PatchDMError(
            f"data.location: found {data.location!r}, expected with source s3: s3://bucket/prefix"
        )
    bucket, prefix = match[1], (match[2] or "").rstrip("/")
    prefix += "/" if prefix else ""
    passed_over = PassedOver()
    try:
        client = _client(data, workspace.transfers)
        photographs = list(_photographs(client, bucket, prefix, passed_over))
    except (*ERRORS, ValueError) as error:  # ValueError: an endpoint that is no URL
        raise PatchDMError(f"{data.location}: cannot be listed: {one_line(error)}") from None
    if not photographs:
        raise PatchDMError(f"{data.location}: found no image, {str(passed_over) or 'it is empty'}")
    yield at_once(photographs, workspace, passed_over)


def _client(data: Data, connections: int) -> Any:
    named = data.credentials if data.credentials not in ("default", "anonymous") else None
    config = Config(
        retries=RETRIES,
        max_pool_connections=connections,
        connect_timeout=10,
        read_timeout=60,
        signature_version=UNSIGNED if data.credentials == "anonymous" else None,
    )
    session = boto3.Session(profile_name=named)
    return session.client("s3", endpoint_url=data.endpoint, config=config)


def _photographs(
    client: Any, bucket: str, prefix: str, passed_over: PassedOver
) -> Iterator[Listed]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    for page in pages:
        for found in page.get("Contents", []):
            key, size = found["Key"], found["Size"]
            if not key.endswith("/") and passed_over.takes(key.removeprefix(prefix)):  # no folder
                url = f"s3://{bucket}/{key}"
                fetch = partial(_fetch, client, bucket, key, size)
                yield Listed(key.removeprefix(prefix), url, url, fetch, found["ETag"])


def _fetch(client: Any, bucket: str, key: str, size: int, path: Path) -> None:
    name = f"s3://{bucket}/{key}"
    if size > MAX_BYTES:
        raise PatchDMError(f"{name}: found {size} bytes, the limit is {MAX_BYTES}")
    try:
        for tries_left in reversed(range(_TRIES)):
            try:
                client.download_file(bucket, key, str(path), Config=TRANSFER)
                if path.stat().st_size == size:
                    return
            except FlexibleChecksumError:
                if not tries_left:
                    raise
    except ERRORS as error:
        raise PatchDMError(f"{name}: cannot be read: {one_line(error)}") from None
    raise PatchDMError(f"{name}: found {path.stat().st_size} bytes, expected {size} as listed")
