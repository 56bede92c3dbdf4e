"""The fenced blocks of README and docs: commands, Python, YAML."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import REPO

FILES = sorted(
    [
        *(REPO / name for name in ("README.md", "CONTRIBUTING.md", "patchdm/showcase/README.md")),
        *REPO.glob("docs/**/*.md"),
    ]
)
_BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block, and where it is."""

    file: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """The commands of a console, without comments, each on one line."""
        joined = re.sub(r"\\\n\s*", "", self.text)
        lines = (re.sub(r"(^|\s+)# .*$", "", line).strip() for line in joined.splitlines())
        return [line for line in lines if line]

    @property
    def pieces(self) -> list[str]:
        """The commands, those that `&&` joins apart."""
        return [piece for command in self.commands for piece in command.split(" && ")]


def blocks(*languages: str) -> Iterator[Block]:
    """Yield the blocks of some languages."""
    for file in FILES:
        text = file.read_text()
        for match in _BLOCK.finditer(text):
            if match[2] in languages:
                line = text.count("\n", 0, match.start()) + 2
                yield Block(file.relative_to(REPO), line, match[2], match[3])
