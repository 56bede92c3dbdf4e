"""Commands on runs: their params.yaml, their photographs, what they cost.

Heavy imports stand inside the functions, so that help and refusals come at once.
"""

from __future__ import annotations

import contextlib
import math
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from patchdm.cli import options
from patchdm.config import load_params, params_hash
from patchdm.console import counted, progress, say
from patchdm.errors import PatchDMError
from patchdm.files import check_room, replacing

PARAMS = Path("params.yaml")
PRESETS = Path("presets")
RUNS = Path("runs")
"""Where `fit` lays out runs, unless it is told where."""
DATA = (Path("data/raw"), Path("data/patches"))
PLAN_NOTES = """
Hours: at {rate:.3g} TFLOP/s achieved ({device}); photographs at {transfer:g} MB/s (assumed),
{extraction:g} per second and worker (of 2 megapixels benchmarks/extraction.py measured 25-100).
FLOP: of matrix products and convolutions, a multiplication and an addition being two. Memory:
tensors of one device at the peak; of a device with so many GB they may fill {usable:.0%}, which
leaves room for what kernels, the device's own context and fragmentation take.
[C]: from the authors' code, [2nd]: quoted by a second text, counted: in the authors' layout."""


app = typer.Typer()
params_group = typer.Typer(help="Write or check params.yaml.")
data_group = typer.Typer(help="Check the photographs of a run.")
app.add_typer(params_group, name="params")
app.add_typer(data_group, name="data")


def _preset(name: str) -> Path:
    """Return the file of a preset."""
    names = sorted(path.stem for path in PRESETS.glob("*.yaml"))
    if not names:
        raise PatchDMError(f"{PRESETS}: no presets in {Path.cwd()}, run in the repository's root")
    if name not in names:
        raise PatchDMError(f"{PRESETS}: no preset {name}, expected {', '.join(names)}")
    return PRESETS / f"{name}.yaml"


Preset = Annotated[Path, Argument(parser=_preset, help="a file of presets/, without .yaml")]


def _run(name: str) -> Path:
    """Return a params file by its path, such as params.yaml, or that of a preset."""
    return Path(name) if Path(name).suffix in (".yaml", ".yml") else _preset(name)


ParamsFile = Annotated[
    Path,
    Argument(metavar="NAME", parser=_run, help="a preset, or a params file: FOLDER/params.yaml"),
]


@params_group.command("use")
def params_use(name: Preset) -> None:
    """Write a preset over params.yaml."""
    load_params(name)
    with replacing(PARAMS) as fresh:
        fresh.write_bytes(name.read_bytes())
    params_check(PARAMS)


@params_group.command("check")
def params_check(file: Annotated[Path, Argument()] = PARAMS) -> None:
    """Check a params file: every key known, present, of its type and in its range."""
    params = load_params(file)
    size = f"{params.data.width}x{params.data.height} pixels"
    patches = f"{params.cols}x{params.rows} patches of {params.model.patch_size}"
    print(f"{file}: ok ({size}, {patches}, hash {params_hash(params)[:12]})")


@data_group.command("verify")
def data_verify(
    folders: Annotated[
        list[Path] | None, options.argument("default: data/raw, data/patches")
    ] = None,
) -> None:
    """Compare data/raw and data/patches byte by byte with the hashes that they carry."""
    found = folders or [folder for folder in DATA if folder.is_dir()]
    if not found:
        raise PatchDMError(f"{DATA[0]}: not found in {Path.cwd()}, name the folders to verify")
    from patchdm.cli.verify import verify

    flaws = []
    for folder in found:
        with counted(f"{folder}", "images") as on_start:
            verdict = verify(folder, on_start)
        if verdict.flaws:
            flaws.append(f"{verdict.first} ({verdict.flaws} in all of {folder})")
        else:
            print(f"{folder}: ok ({verdict.checked} images)")
    if flaws:
        raise PatchDMError("; ".join(flaws))


def _rate(meaning: str, metavar: str, unit: str) -> Any:
    return options.number(meaning, metavar, f"{unit} above 0", least=math.ulp(0))


@app.command()
def plan(
    name: ParamsFile,
    rate: Annotated[
        float, _rate("what the device achieves, in TFLOP/s", "TFLOPS", "TFLOP/s")
    ] = 100,
    here: Annotated[bool, Option("--here", help="measure it, and look for room on disk")] = False,
    transfer: Annotated[float, _rate("what the network transfers, in MB/s", "MB", "MB/s")] = 50,
    extraction: Annotated[
        float, _rate("extracted per second by a worker", "N", "photographs/s")
    ] = 25,
) -> None:
    """Count what a preset or a params.yaml costs, from parameters to hours."""
    params, preset = load_params(name), name.parent == PRESETS
    from patchdm import peaks
    from patchdm.cli.cost import data_cost, disk_bytes, fetched
    from patchdm.cli.here import measured_tflops
    from patchdm.cli.plan import PAPER, tabulate, workload
    from patchdm.devices import device_memory
    from patchdm.fetch.sources import count

    if not preset and params.data.is_local:  # what is relative is so to the folder of the run
        location = {"location": str(name.parent / params.data.location)}
        params = params.model_copy(update={"data": params.data.model_copy(update=location)})
    label, paper = name.stem if preset else "", PAPER.get(name.stem) if preset else None
    photographs = paper.photographs if paper else count(params.data)
    load = workload(params, photographs)
    found = peaks.peaks(params, load.training_images)
    device = "assumed"
    if here:
        device, rate = measured_tflops(params, load.train_flops)
    table = tabulate(params, load, found, rate, paper)
    rates = {"megabytes": transfer, "photographs_a_second": extraction}
    workers = params.machine.workers
    disk = disk_bytes(label, params, found, load.store_bytes)
    data = data_cost(label, params.data, photographs, disk, workers=workers, **rates)
    print(f"{'':34}{name.stem:>14} {'':6}{'PAPER.md' if paper else ''}".rstrip())
    for row in [*table.itertuples(), *data.assign(paper="").itertuples()]:
        digits = 2 if row.unit else 0
        print(f"{row.quantity:34}{row.value:14,.{digits}f} {row.unit:6}{row.paper}".rstrip())
    notes = {"rate": rate, "transfer": transfer, "extraction": extraction, "usable": peaks.USABLE}
    print(PLAN_NOTES.format(**notes, device=device))
    for each in fetched(params):
        print(f"To fetch: {each}.")
    if here:
        check_room(Path.cwd(), disk)
    if (memory := device_memory(params.machine.device_memory)) is not None:
        peaks.check_memory(params, load.training_images, memory, found)


@app.command()
def fit(
    photographs: Annotated[Path, options.argument("folder of photographs")],
    *,
    size: Annotated[dict[str, int], options.size("of the images that the model makes")],
    hours: Annotated[float, options.number("for the whole run", "H", "above 0", least=math.ulp(0))],
    out: Annotated[
        Path | None, options.output("a new folder for the run; default: runs/ and its name", "DIR")
    ] = None,
    run: Annotated[bool, Option("--run", help="start it")] = False,
) -> None:
    """Choose the run that fits photographs, size, hours and this machine, and say why."""
    if not photographs.is_dir():
        raise PatchDMError(f"{photographs}: found a file, expected a folder of photographs")
    from patchdm.cli import fit as command

    folder = out or RUNS / photographs.resolve().name
    with contextlib.ExitStack() as stack:

        def on_start(total: int) -> Callable[[int], None]:
            return stack.enter_context(progress("look", total, "photographs"))

        for line in command.fit(photographs, size, hours, folder, tell=say, on_start=on_start):
            stack.close()  # the bar of photographs
            print(line, flush=True)
    place = shlex.quote(str(folder))
    print(f"{folder}/params.yaml: written; `cd {place} && dvc repro` runs it, also after a kill")
    if run:
        sys.exit(command.run(folder))


@app.command()
def watch(
    run: Annotated[Path, Argument(metavar="[RUN]", help="its folder; default: this one")] = Path(),
    every: Annotated[int, options.count("seconds between two versions of the page")] = 15,
) -> None:
    """Follow a training on a page: curves, newest samples, time left. It disturbs nothing."""
    if not (run / PARAMS).is_file():
        raise PatchDMError(f"{run}: found no {PARAMS}, expected the folder of a run")
    from patchdm.cli.watch import PAGE, watch

    say(f"{run / PAGE}: open it in a browser; Ctrl-C ends this, not the training")
    for line in watch(run, every):
        print(line, flush=True)
