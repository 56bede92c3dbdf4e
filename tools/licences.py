"""List the licences of all that the project requires, as their packages state them.

`python tools/licences.py` prints a table in Markdown; with `--summary` it counts. It exits with 1
if a licence forbids the use of the package, or if a package states none. Only what is installed
can be read: run it in an environment of `make install`.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections import Counter
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
KINDS = {
    "forbids": r"non-?commercial|\bNC\b|(research|evaluation|academic)( use)? only",
    "copyleft": r"(?<!L)(?<!Lesser )\bA?GPL|GNU (Affero )?General Public",
    "weak copyleft": r"LGPL|MPL|Mozilla|EPL|Lesser General",
    "proprietary, free of charge": r"NVIDIA|proprietary",
    "permissive": r"MIT|BSD|Apache|ISC|PSF|Python Software|HPND|Unlicense|CC0|Zlib|CMU|CNRI"
    r"|OLDAP|Zope",
}
"""Kind -> what a licence of it is called; the first that fits counts, but see `kind_of`."""
STATED_ELSEWHERE = {"cuda-toolkit": "LicenseRef-NVIDIA-Proprietary"}
"""Distribution without files, which requires others -> the licence of those."""


def normal(name: str) -> str:
    """Return a distribution's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def required(texts: list[str]) -> dict[str, Distribution | None]:
    """Return what some requirements need, and what that needs, by name; None: not installed."""
    found: dict[str, Distribution | None] = {}
    todo = [Requirement(text) for text in texts]
    seen = set()
    while todo:
        each = todo.pop()
        name = normal(each.name)
        for extra in ("", *each.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            try:
                found[name] = distribution(name)
            except PackageNotFoundError:
                found[name] = None
                continue
            for text in found[name].requires or []:
                needed = Requirement(text)
                if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                    todo.append(needed)
    return found


def licence_of(name: str, package: Distribution) -> str:
    """Return the licence that a package states: an expression, classifiers, a name, or a file."""
    metadata = package.metadata
    if expression := metadata.get("License-Expression"):
        return str(expression)
    classifiers = [
        text.rpartition(" :: ")[2]
        for text in metadata.get_all("Classifier") or []
        if text.startswith("License :: ") and not text.endswith("OSI Approved")
    ]
    lines = str(metadata.get("License") or "").strip().splitlines()
    written = lines[0].strip() if lines and lines != ["UNKNOWN"] else ""
    return "; ".join(classifiers) or written or STATED_ELSEWHERE.get(name) or _title(package)


def _title(package: Distribution) -> str:
    """Return the first line of a package's licence; empty: it has none."""
    for file in package.files or []:
        if file.name.upper().startswith(("LICENSE", "LICENCE", "COPYING")):
            lines = file.read_text().split("\n")
            return next((line.strip() for line in lines if line.strip()), "")
    return ""


def kind_of(licence: str) -> str:
    """Return the kind of a licence; of one or another, the kinder one counts."""
    kinds = [kind for kind, pattern in KINDS.items() if re.search(pattern, licence, re.IGNORECASE)]
    if not kinds:
        return "unknown"
    return kinds[-1] if " OR " in licence else kinds[0]


def main() -> None:
    """Print the licences; exit with 1 if one forbids the use or is not known."""
    extras = PROJECT["optional-dependencies"]
    texts = [*PROJECT["dependencies"], *(text for part in extras.values() for text in part)]
    packages = required([text for text in texts if not text.startswith("patchdm[")])
    rows, kinds, refused = [], Counter[str](), []
    for name, package in sorted(packages.items()):
        if package is None:
            continue  # of another system
        licence = licence_of(name, package)
        kind = kind_of(licence)
        kinds[kind] += 1
        rows.append(f"| {name} | {package.version} | {licence[:80]} | {kind} |")
        if kind in {"forbids", "unknown"}:
            refused.append(f"{name}: found licence {licence[:80]!r}, expected one that permits use")
    if "--summary" in sys.argv[1:]:
        rows = [f"| {kind} | {count} |" for kind, count in kinds.most_common()]
        print("| kind | packages |\n|---|---|", *rows, sep="\n")
    else:
        print("| package | version | licence | kind |\n|---|---|---|---|", *rows, sep="\n")
    if refused:
        sys.exit("\n".join(f"error: {line}" for line in refused))


if __name__ == "__main__":
    main()
