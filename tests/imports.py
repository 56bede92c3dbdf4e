"""What the source files import and read, found without running them.

`python -m tests.imports stages/NAME.py` prints the `deps` and `params` that dvc.yaml must declare.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

from patchdm.config import Params
from stages import _cells, _common

REPO = Path(__file__).parents[1]
COMMON = Path("stages/_common.py")
STAGES = sorted(path.relative_to(REPO) for path in REPO.glob("stages/[!_]*.py"))
OUR_PACKAGES = {"patchdm", "stages", "pipelines", "tests"}
DATA_PATHS = {
    name: value
    for name, value in vars(_common).items()
    if isinstance(value, Path) and value not in (_common.PARAMS, _common.STATE)
}
"""Names of _common's outputs -> their paths."""


INERT = {
    Path("patchdm/choices.py"): "names, which params.yaml is checked with",
    Path("patchdm/config"): "DVC tracks the values of parameters",
    Path("patchdm/console.py"): "what is shown",
    Path("patchdm/errors.py"): "what is said of mistakes",
    Path("patchdm/files.py"): "how files take their place, not what is in them",
    Path("patchdm/locks.py"): "who works when, not what comes of it",
    Path("patchdm/memory.py"): "where tensors lie, not what is in them",
    Path("patchdm/parallel.py"): "results come in order, from however many processes",
    Path("patchdm/peaks.py"): "refuses what does not fit a device",
    Path("patchdm/saved.py"): "refuses damaged folders",
    Path("patchdm/to_diffusers.py"): "by which names diffusers finds the parts",
    Path("stages/__init__.py"): "a docstring",
    Path("stages/_common.py"): "paths, locks, signals",
    Path("stages/_declared.py"): "reads dvc.yaml",
    Path("stages/_outputs.py"): "what is refused",
    Path("stages/_processes.py"): "any number of processes trains to the same bytes",
}
"""Code that changes no byte of an output, and why: no stage goes stale by it, nor by what it alone
loads."""


def parse(file: Path) -> ast.Module:
    """Parse a file, given relative to the repository."""
    return ast.parse((REPO / file).read_text(), str(file))


def imported(tree: ast.AST) -> set[str]:
    """Return the dotted names of all imports; `from a import b` gives a and a.b."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return names


def called(stage: Path) -> set[Path]:
    """Return the stages that a stage of the ablation calls for a cell: those it imports."""
    return {file for name in imported(parse(stage)) if (file := module_file(name)) in STAGES}


def module_file(name: str) -> Path | None:
    """Return the file of one of our modules or packages; None for anything else."""
    path = Path(*name.split("."))
    if path.parts[0] not in OUR_PACKAGES:
        return None
    files = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in files if (REPO / file).is_file()), None)


def loaded_files(start: Path) -> set[Path]:
    """Return our files that Python reads when it runs `start`: its imports, theirs, packages."""
    found: set[Path] = set()
    todo = [start]
    while todo:
        file = todo.pop()
        if file in found:
            continue
        found.add(file)
        if unit_of(file) in INERT and file != start:
            continue
        tree = parse(file)
        names = imported(tree) | {".".join(file.with_suffix("").parts)}
        for name in names:
            parts = name.split(".")
            prefixes = (".".join(parts[: end + 1]) for end in range(len(parts)))
            todo += [path for prefix in prefixes if (path := module_file(prefix))]
    return found


def code_units(stage: Path) -> set[Path]:
    """Return the code that dvc.yaml must declare: folders and files of the library, stages."""
    return {unit_of(file) for file in loaded_files(stage)} - INERT.keys()


def unit_of(file: Path) -> Path:
    """Return the folder of the library that a file lies in, or the file."""
    return Path(*file.parts[:2])


def sections_read(stage: Path) -> set[str]:
    """Return the sections of params.yaml that a stage reads from its variable `params`.

    All of them, where it hands `params` on whole to a function that is not its own; but to the
    stages that it calls it hands what they read. A cell has no `ablation`. `check_counts` and
    `check_memory` refuse and change no byte: DVC need not know what they look at.
    """
    tree = parse(stage)
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    # What is declared is known to these, or changes no byte.
    own |= {"state_dir", "params_digest", "check_counts", "check_memory", "processes_of"}
    own |= {file.stem for file in called(stage)}
    sections = {section for file in called(stage) for section in sections_read(file)} - {"ablation"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and _is_params(node.value):
            sections |= _sections_of(node.attr)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "sampling_options":
            sections |= {"sample", "latent"}
        elif isinstance(node, ast.Call) and not (
            isinstance(node.func, ast.Name) and node.func.id in own
        ):
            handed_on = [*node.args, *(keyword.value for keyword in node.keywords)]
            if any(_is_params(value) for value in handed_on):
                sections |= set(Params.model_fields)
    return sections


def paths_used(stage: Path) -> set[Path]:
    """Return the outputs named in _common that a stage reads or writes: `NAME`, `run / NAME`.

    Places in another folder are none of them: `folder / NAME`, and the keys of `{NAME: target}`.
    What a cell shares with the run is read by the stages that are called for it.
    """
    nodes = list(ast.walk(parse(stage)))
    joins = (node for node in nodes if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div))
    elsewhere = {join.right for join in joins if ast.unparse(join.left) != "run"}
    elsewhere |= {key for node in nodes if isinstance(node, ast.Dict) for key in node.keys if key}
    here = [node for node in nodes if node not in elsewhere]
    names = {node.id for node in here if isinstance(node, ast.Name)}
    names |= {node.attr for node in here if isinstance(node, ast.Attribute)}
    shared = {path for file in called(stage) for path in paths_used(file)} & {*_cells.SHARED}
    return shared | {path for name, path in DATA_PATHS.items() if name in names}


def _is_params(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "params"


def _sections_of(attribute: str) -> set[str]:
    """Return the sections behind an attribute of Params: itself, or those a property names."""
    if attribute in Params.model_fields:
        return {attribute}
    return set(vars(Params)[attribute].fget.__code__.co_names) & set(Params.model_fields)


if __name__ == "__main__":
    for stage in map(Path, sys.argv[1:]):
        print(f"{stage.stem}:\n  deps:")
        print(*(f"    - {path}" for path in sorted(code_units(stage))), sep="\n")
        print("  params:")
        print(*(f"    - {section}" for section in sorted(sections_read(stage))), sep="\n")
        print(f"  reads and writes: {', '.join(map(str, sorted(paths_used(stage))))}")
