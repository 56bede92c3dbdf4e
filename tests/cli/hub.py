"""A hub on this host: models that it serves, and what is pushed to it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fetch.packs import COMMIT, add_hub
from tests.fetch.server import Handler, Site
from tests.photographs import contents


@dataclass
class Hub:
    """What a site answers as the hub; `site.posted` must be its `answer`."""

    site: Site
    stored: dict[str, bytes] = field(default_factory=dict)
    """Content of large files by their sha256."""
    made: list[dict[str, Any]] = field(default_factory=list)
    """Repositories that were created, as they were asked for."""
    pushed: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """Files by "OWNER/NAME@BRANCH"."""
    tokens: set[str | None] = field(default_factory=set)
    refusal: int | None = None
    """Status of the answer to every push."""

    def serve(self, repository: str, folder: Path, commit: str = COMMIT) -> None:
        """Serve the files of a folder as a model, to GET and HEAD."""
        add_hub(self.site, repository, contents(folder), kind="models", commit=commit)

    def answer(self, handler: Handler, path: str, body: bytes) -> None:
        """Answer a POST or PUT as the hub does."""
        self.tokens.add(handler.headers.get("Authorization"))
        if self.refusal:
            handler.send_error(self.refusal)
        else:
            handler.answer(json.dumps(self._said(path, body)).encode())

    def _said(self, path: str, body: bytes) -> dict[str, Any]:
        if path.startswith("lfs/"):
            assert hashlib.sha256(body).hexdigest() == path.removeprefix("lfs/")
            self.stored[path.removeprefix("lfs/")] = body
            return {}
        if found := re.fullmatch("api/models/(.+?)/commit/(.+)", path):
            files = self.pushed.setdefault(f"{found[1]}@{found[2]}", {})
            files |= dict(self._committed(body))
            url = f"{self.site.url}/{found[1]}/commit/{COMMIT}"
            return {"success": True, "commitOid": COMMIT, "commitUrl": url}
        asked = json.loads(body) if body else {}
        match path.rsplit("/", 2):
            case [_, "repos", "create"]:
                self.made.append(asked)
                return {"url": f"{self.site.url}/{asked['organization']}/{asked['name']}"}
            case [_, "preupload", _]:
                return {"files": [_mode(file["path"]) for file in asked["files"]]}
            case [_, "objects", "batch"]:
                return {"transfer": "basic", "objects": [self._place(o) for o in asked["objects"]]}
        return {"warnings": [], "errors": []}

    def _place(self, wanted: dict[str, Any]) -> dict[str, Any]:
        href = f"{self.site.url}/lfs/{wanted['oid']}"
        return {"oid": wanted["oid"], "size": wanted["size"], "actions": {"upload": {"href": href}}}

    def _committed(self, body: bytes) -> list[tuple[str, bytes]]:
        """Return the files of a commit: regular ones are in it, large ones were sent before."""
        lines = [json.loads(line) for line in body.splitlines()]
        files = [
            (line["value"]["path"], base64.b64decode(line["value"]["content"]))
            for line in lines
            if line["key"] == "file"
        ]
        large = [line["value"] for line in lines if line["key"] == "lfsFile"]
        return files + [(value["path"], self.stored[value["oid"]]) for value in large]


def _mode(path: str) -> dict[str, Any]:
    large = path.endswith(".safetensors")
    return {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
