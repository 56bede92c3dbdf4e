"""The `patchdm` command: a table of small functions, run in the repository's root.

Heavy imports stand inside the functions, so that `patchdm --help` answers at once.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from patchdm.cli.options import INPAINT, OUTPAINT, SAMPLE
from patchdm.console import show_any_text
from patchdm.errors import MISTAKES, PatchDMError, mistake

PARAMS = Path("params.yaml")
PRESETS = Path("presets")
DATA = (Path("data/raw"), Path("data/patches"))
PLAN_NOTES = """
Hours: at {rate:g} TFLOP/s achieved; photographs at {transfer:g} MB/s (assumed),
{extraction:g} a second a worker (of 2 megapixels benchmarks/extraction.py measured 25-100). FLOP:
of matrix products and convolutions, a multiplication and an addition being two. State: weights,
gradients, Adam's two moments and EMA in float32. Activations: what autograd keeps in float32;
mixed precision and fused attention keep less.
[C]: from the authors' code, [2nd]: quoted by a second text, counted: in the authors' layout."""


def params_use(name: str) -> None:
    """Write a preset over params.yaml."""
    from patchdm.config import load_params
    from patchdm.files import replacing

    preset = _preset(name)
    load_params(preset)
    with replacing(PARAMS) as fresh:
        fresh.write_bytes(preset.read_bytes())
    params_check(PARAMS)


def params_check(file: Path) -> None:
    """Check a params file: every key known, present, of its type and in its range."""
    from patchdm.config import load_params, params_hash

    params = load_params(file)
    size = f"{params.data.width}x{params.data.height} pixels"
    patches = f"{params.cols}x{params.rows} patches of {params.model.patch_size}"
    print(f"{file}: ok ({size}, {patches}, hash {params_hash(params)[:12]})")


def import_official(checkpoint: Path, out: Path) -> None:
    """Write a checkpoint of the authors' code as a diffusers folder."""
    from patchdm import official

    official.import_official(checkpoint, out)
    parts = sorted(path.name for path in out.iterdir())
    print(f"{out}: wrote {', '.join(parts)}")


def plan(name: str, rate: float, transfer: float, extraction: float) -> None:
    """Say what a preset costs: parameters, arithmetic, memory, bytes, hours."""
    from patchdm.cli.cost import data_cost
    from patchdm.cli.plan import PAPER, tabulate, workload
    from patchdm.config import load_params
    from patchdm.fetch.sources import count

    for option, value, unit in (
        ("rate", rate, "TFLOP/s"),
        ("transfer", transfer, "MB/s"),
        ("extraction", extraction, "photographs/s"),
    ):
        if not value > 0:
            raise PatchDMError(f"--{option}: found {value:g}, expected {unit} above 0")
    params = load_params(_preset(name))
    paper = PAPER.get(name)
    photographs = paper.photographs if paper else count(params.data)
    table = tabulate(params, workload(params, photographs), rate, paper)
    data = data_cost(
        name,
        params.data,
        photographs,
        workers=params.machine.workers,
        megabytes=transfer,
        photographs_a_second=extraction,
    )
    print(f"{'':34}{name:>14} {'':6}{'PAPER.md' if paper else ''}".rstrip())
    for quantity, value, unit, reference in table.itertuples(index=False):
        digits = 2 if unit else 0
        print(f"{quantity:34}{value:14,.{digits}f} {unit:6}{reference}".rstrip())
    for quantity, value, unit in data.itertuples(index=False):
        print(f"{quantity:34}{value:14,.2f} {unit}")
    print(PLAN_NOTES.format(rate=rate, transfer=transfer, extraction=extraction))


def data_verify(folders: list[Path]) -> None:
    """Compare data/raw and data/patches byte by byte with the hashes that they carry."""
    from patchdm.cli.verify import verify

    found = folders or [folder for folder in DATA if folder.is_dir()]
    if not found:
        raise PatchDMError(f"{DATA[0]}: not found in {Path.cwd()}, name the folders to verify")
    flaws = []
    for folder in found:
        with _progress(f"{folder}") as on_start:
            verdict = verify(folder, on_start)
        if verdict.flaws:
            flaws.append(f"{verdict.first} ({verdict.flaws} in all of {folder})")
        else:
            print(f"{folder}: ok ({verdict.checked} images)")
    if flaws:
        raise PatchDMError("; ".join(flaws))


def sample(out: Path, grid: bool, **options: Any) -> None:
    """Sample one image a seed; the same command goes on after a kill, or shares the work."""
    from patchdm.cli.sample import sample, write_contact_sheet

    with _progress("sample") as on_start:
        complete = sample(out=out, on_start=on_start, **options)
    if not complete:
        print(f"{out}: other processes are at work on the rest")
    elif grid:
        print(f"{out}: done, see {write_contact_sheet(out)}")
    else:
        print(f"{out}: done")


def inpaint(**options: Any) -> None:
    """Make the white part of a mask anew, and keep the rest of an image as it is."""
    from patchdm.cli.restore import inpaint

    for path in inpaint(**options):
        print(f"{path}: done")


def outpaint(**options: Any) -> None:
    """Make what lies beyond the borders of an image."""
    from patchdm.cli.restore import outpaint

    for path in outpaint(**options):
        print(f"{path}: done")


COMMANDS: dict[str, tuple[Callable[..., None], dict[str, dict[str, Any]]]] = {
    "params use": (params_use, {"name": {"help": "a file of presets/, without .yaml"}}),
    "params check": (
        params_check,
        {"file": {"nargs": "?", "type": Path, "default": PARAMS, "help": "default: %(default)s"}},
    ),
    "plan": (
        plan,
        {
            "name": {"help": "a file of presets/, without .yaml"},
            "--rate": {
                "type": float,
                "default": 100.0,
                "metavar": "TFLOPS",
                "help": "what the device achieves, in TFLOP/s; default: %(default)g",
            },
            "--transfer": {
                "type": float,
                "default": 50.0,
                "metavar": "MB",
                "help": "what the network brings, in MB/s; default: %(default)g",
            },
            "--extraction": {
                "type": float,
                "default": 25.0,
                "metavar": "N",
                "help": "photographs that a worker extracts in a second; default: %(default)g",
            },
        },
    ),
    "import-official": (
        import_official,
        {
            "checkpoint": {"type": Path, "help": "the last.ckpt of a training"},
            "out": {"type": Path, "help": "a new folder"},
        },
    ),
    "data verify": (
        data_verify,
        {
            "folders": {
                "nargs": "*",
                "type": Path,
                "metavar": "FOLDER",
                "help": "default: data/raw and data/patches",
            }
        },
    ),
    "sample": (sample, SAMPLE),
    "inpaint": (inpaint, INPAINT),
    "outpaint": (outpaint, OUTPAINT),
}
"""Words of a command -> its function and the function's arguments, as argparse options."""


@contextlib.contextmanager
def _progress(name: str) -> Iterator[Callable[[int], Callable[[int], None]]]:
    """Show how many images are done, once their number is known; yield what that is told."""
    from patchdm.console import progress

    with contextlib.ExitStack() as stack:
        yield lambda total: stack.enter_context(progress(name, total, "images"))


def _preset(name: str) -> Path:
    """Return the file of a preset."""
    names = sorted(path.stem for path in PRESETS.glob("*.yaml"))
    if not names:
        raise PatchDMError(f"{PRESETS}: no presets in {Path.cwd()}, run in the repository's root")
    if name not in names:
        raise PatchDMError(f"{PRESETS}: no preset {name}, expected {', '.join(names)}")
    return PRESETS / f"{name}.yaml"


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command; a mistake of the user prints one line and exits with 1."""
    show_any_text()
    try:
        words = _options_first(sys.argv[1:] if argv is None else argv)
        arguments = vars(_parser().parse_args(words))
        run = arguments.pop("run")
        run(**arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:
        # `patchdm plan NAME | head` has read enough. Python would flush once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except MISTAKES as error:
        if (line := mistake(error)) is None:
            raise
        sys.exit(f"error: {line}")


def _options_first(argv: Sequence[str]) -> list[str]:
    """Put the options of a command before its other arguments, which argparse wants in a row."""
    commands = {tuple(words.split()): arguments for words, (_, arguments) in COMMANDS.items()}
    head = next((words for words in commands if words == tuple(argv[: len(words)])), None)
    if head is None:
        return list(argv)
    valued = [name for name, details in commands[head].items() if "action" not in details]
    options, others = list[str](), list[str]()
    rest = iter(argv[len(head) :])
    for word in rest:
        if word == "--":
            others += [word, *rest]
        elif not word.startswith("-"):
            others.append(word)
        else:
            options.append(word)
            if any(name.startswith(word) for name in valued):  # or begins so, as argparse allows
                value = next(rest, None)
                if value is None:
                    return list(argv)  # argparse says what is missing
                options.append(value)
    return [*head, *options, *others]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="patchdm", description="Patch-DM.")
    groups = {"": parser.add_subparsers(required=True, metavar="COMMAND")}
    for words, (run, arguments) in COMMANDS.items():
        group, _, name = words.rpartition(" ")
        if group not in groups:
            parent = groups[""].add_parser(group, help=f"see `patchdm {group} --help`")
            groups[group] = parent.add_subparsers(required=True, metavar="COMMAND")
        summary = (run.__doc__ or "").partition("\n")[0]
        command = groups[group].add_parser(name, help=summary, description=summary)
        command.set_defaults(run=run)
        for argument, options in arguments.items():
            command.add_argument(argument, **options)
    return parser
