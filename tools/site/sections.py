"""Pages of the site that are sections of other Markdown files: no text stands twice."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pymdownx.slugs import slugify  # type: ignore[import-untyped]

from tools.site.links import outside_fences

_SLUG = slugify(case="lower")


@dataclass(frozen=True)
class Sections:
    """A page: its title, and the headings of a file whose text it has; none: all of it."""

    title: str
    file: str
    headings: tuple[str, ...] = ()


PAGES = {
    "guide/images.md": Sections("Images of any size", "README.md", ("Images of any size",)),
    "guide/runs.md": Sections("Runs, stages and presets", "README.md", ("Run", "Presets")),
    "results/demo.md": Sections(
        "What the demo reaches",
        "README.md",
        ("What the demo reaches", "The paper's ablation, in small", "Limits"),
    ),
    "results/showcase.md": Sections("Card of the bundled model", "patchdm/showcase/README.md"),
    "results/reproducible.md": Sections("How reproducible", "README.md", ("How reproducible",)),
    "method/parity.md": Sections("Is this Patch-DM?", "README.md", ("Is this Patch-DM?",)),
    "glossary.md": Sections("Glossary", "CONTRIBUTING.md", ("Words",)),
    "changes.md": Sections("Changelog", "CHANGELOG.md"),
    "contributing.md": Sections(
        "Contributing", "CONTRIBUTING.md", ("To add something", "Rules", "Tests")
    ),
}
ELSEWHERE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "README.md#in-a-browser": "studio.md",
    "README.md#from-python": "reference/python.md",
    "README.md#layout": "contributing.md",
    "patchdm/showcase/README.md": "results/showcase.md",
    "patchdm/config": "reference/params.md",
    "patchdm/cli/app.py": "reference/commands.md",
    "patchdm/app/routes.py": "reference/http.md",
}
"""Files and headings without a page of their own -> the page that has what they say."""


def slug(heading: str) -> str:
    """Return the anchor of a heading."""
    return str(_SLUG(re.sub("`", "", heading), "-"))


def moved() -> dict[str, str]:
    """Return FILE#HEADING -> the page, of all sections that are pages."""
    found = dict(ELSEWHERE)
    for page, sections in PAGES.items():
        for heading in sections.headings:
            anchor = f"#{slug(heading)}" if len(sections.headings) > 1 else ""
            found[f"{sections.file}#{slug(heading)}"] = page + anchor
    return found


def text_of(root: Path, sections: Sections) -> str:
    """Return a page.

    Raises:
        LookupError: its file has no such heading.
    """
    text = (root / sections.file).read_text()
    if not sections.headings:
        text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)  # front matter of the hub
        return re.sub(r"\A\s*# .*\n", f"# {sections.title}\n", text)
    parts = [_section(text, sections.file, heading) for heading in sections.headings]
    if len(parts) > 1:
        parts = [
            f"## {heading}\n{part}" for heading, part in zip(sections.headings, parts, strict=True)
        ]
    return f"# {sections.title}\n\n" + "\n".join(parts)


def _section(text: str, file: str, heading: str) -> str:
    """Return what stands below a heading of the second level."""
    marked = outside_fences(text, lambda part: re.sub("(?m)^## ", "\0", part))
    for part in marked.split("\0")[1:]:
        title, _, body = part.partition("\n")
        if title.strip() == heading:
            return body
    raise LookupError(f"{file}: no section `## {heading}`, which a page of the site shows")
