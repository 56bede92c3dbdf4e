"""What the two stages of the ablation share: a cell's folder, and other stages run in it.

A cell is a variant at a seed. Its stages are the run's own, in a folder of their own that looks
like the repository: the cell's params.yaml, the code, and what they read, by links.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ruamel.yaml import YAML

from patchdm.ablation import variant_params
from patchdm.config import Params
from patchdm.errors import PatchDMError
from patchdm.files import replacing
from stages._common import PARAMS, die_with_parent, locked, run_command
from stages._declared import declared_outputs

CODE = (Path("patchdm"), Path("stages"))


def run_cell_stage(stage: Callable[[Params, str], None]) -> None:
    """Run a stage as the command `python -m stages.NAME VARIANT SEED`.

    The stage gets the cell's params, and the cell's name: VARIANT-SEED.
    """
    name, words = stage.__name__, sys.argv[1:]

    def run(params: Params) -> None:
        variant, seed = _arguments(words)
        stage(variant_params(params, variant, seed), f"{variant}-{seed}")

    run_command(name, run, declared_outputs(name, cell="-".join(words)))


@contextlib.contextmanager
def cell_folder(
    stage: str, cell: str, params: Params, inputs: Mapping[Path, Path]
) -> Iterator[Path]:
    """Yield the locked folder in which a cell's stages run, and go on after a kill.

    Args:
        stage: that works there; no two share a folder.
        cell: VARIANT-SEED.
        params: of the cell.
        inputs: path in the folder -> the file or folder that it links to.

    Raises:
        PatchDMError: another process works in it.
    """
    with locked(f"{stage}/{cell}") as folder:
        for path, target in ({code: code for code in CODE} | dict(inputs)).items():
            link = folder / path
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(target.resolve())
        with replacing(folder / PARAMS) as fresh, fresh.open("w") as file:
            YAML(typ="safe", pure=True).dump(params.model_dump(), file)
        yield folder


def run_in(folder: Path, module: str) -> None:
    """Run a stage as a command of its own in a folder; it dies with this process.

    Raises:
        PatchDMError: it failed, and said why on standard error.
    """
    # No threads run here yet, which is what makes code between fork and exec safe.
    with subprocess.Popen(  # noqa: S603 - our own modules
        [sys.executable, "-m", module],
        cwd=folder,
        preexec_fn=die_with_parent,  # noqa: PLW1509
    ) as child:
        try:
            status = child.wait()
        except BaseException:  # SIGTERM: it saves its progress before it ends
            child.terminate()
            raise
    if status:
        raise PatchDMError(f"{module} in {folder}: ended with status {status}, see above")


def _arguments(words: list[str]) -> tuple[str, int]:
    match words:
        case [variant, seed] if seed.isdecimal():
            return variant, int(seed)
    raise PatchDMError(f"arguments: found {words}, expected a variant and a seed")
