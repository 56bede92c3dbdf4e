"""The `patchdm` command: typed functions, run in the repository's root.

Heavy imports stand inside the functions, so that help and refusals come at once.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn, Unpack

import typer
from typer import Argument, Option

from patchdm.choices import Format, Half, Solver
from patchdm.cli import options
from patchdm.config import load_params, params_hash
from patchdm.console import progress, say, show_any_text
from patchdm.errors import MISTAKES, PatchDMError, mistake
from patchdm.files import replacing

PARAMS = Path("params.yaml")
PRESETS = Path("presets")
DATA = (Path("data/raw"), Path("data/patches"))
PLAN_NOTES = """
Hours: at {rate:.3g} TFLOP/s achieved ({device}); photographs at {transfer:g} MB/s (assumed),
{extraction:g} per second and worker (of 2 megapixels benchmarks/extraction.py measured 25-100).
FLOP: of matrix products and convolutions, a multiplication and an addition being two. Memory:
tensors of one device at the peak; of a device with so many GB they may fill {usable:.0%}, which
leaves room for what kernels, the device's own context and fragmentation take.
[C]: from the authors' code, [2nd]: quoted by a second text, counted: in the authors' layout."""

app = typer.Typer(rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]})
params_group = typer.Typer(help="Write or check params.yaml.")
data_group = typer.Typer(help="Check the photographs of a run.")
app.add_typer(params_group, name="params")
app.add_typer(data_group, name="data")


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command; a mistake prints one line and exits with 1, or 2 if it is of syntax."""
    show_any_text()
    try:
        status = typer.main.get_command(app)(argv, "patchdm", standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as error:
        _refuse(error)
    except (BrokenPipeError, SystemExit) as error:
        # `patchdm plan NAME | head` has read enough, which Typer may turn into an exit.
        if BrokenPipeError not in (type(error), type(error.__context__)):
            raise
        # Python would flush once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except MISTAKES as error:
        if (line := mistake(error)) is None:
            raise
        sys.exit(f"error: {line}")
    if status:
        sys.exit(status)


def _refuse(error: typer.TyperException) -> NoReturn:
    """Say on one line what is wrong with a value, or with the syntax of a command, and exit."""
    if isinstance(error, typer.BadParameter) and error.param and error.message:
        sys.exit(" ".join(f"error: {error.param.opts[0]}: {error.message}".split()))
    text = " ".join(error.format_message().split()).rstrip(".")
    command = getattr(getattr(error, "ctx", None), "command_path", "patchdm")
    print(f"error: {text}; see `{command} --help`", file=sys.stderr)
    sys.exit(error.exit_code)


def _show_version(wanted: bool) -> None:
    from importlib.metadata import version

    if wanted:
        print(f"patchdm {version('patchdm')}")
        raise typer.Exit


@app.callback()
def patchdm(
    _version: Annotated[
        bool, Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Patch-DM: diffusion on patches, joined by feature collage."""


def _preset(name: str) -> Path:
    """Return the file of a preset."""
    names = sorted(path.stem for path in PRESETS.glob("*.yaml"))
    if not names:
        raise PatchDMError(f"{PRESETS}: no presets in {Path.cwd()}, run in the repository's root")
    if name not in names:
        raise PatchDMError(f"{PRESETS}: no preset {name}, expected {', '.join(names)}")
    return PRESETS / f"{name}.yaml"


Preset = Annotated[Path, Argument(parser=_preset, help="a file of presets/, without .yaml")]


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
        with _progress(f"{folder}") as on_start:
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
    name: Preset,
    rate: Annotated[
        float, _rate("what the device achieves, in TFLOP/s", "TFLOPS", "TFLOP/s")
    ] = 100,
    here: Annotated[bool, Option("--here", help="measure it, and look for room on disk")] = False,
    transfer: Annotated[float, _rate("what the network transfers, in MB/s", "MB", "MB/s")] = 50,
    extraction: Annotated[
        float, _rate("extracted per second by a worker", "N", "photographs/s")
    ] = 25,
) -> None:
    """Count what a preset costs, from parameters to hours."""
    from patchdm import peaks
    from patchdm.cli.cost import data_cost, disk_bytes, fetched
    from patchdm.cli.here import check_disk, measured_tflops
    from patchdm.cli.plan import PAPER, tabulate, workload
    from patchdm.devices import device_memory
    from patchdm.fetch.sources import count

    params = load_params(name)
    paper = PAPER.get(name.stem)
    photographs = paper.photographs if paper else count(params.data)
    load = workload(params, photographs)
    found = peaks.peaks(params, load.training_images)
    device = "assumed"
    if here:
        device, rate = measured_tflops(params, load.train_flops)
    table = tabulate(params, load, found, rate, paper)
    rates = {"megabytes": transfer, "photographs_a_second": extraction}
    workers = params.machine.workers
    disk = disk_bytes(name.stem, params, found, load.store_bytes)
    data = data_cost(name.stem, params.data, photographs, disk, workers=workers, **rates)
    print(f"{'':34}{name.stem:>14} {'':6}{'PAPER.md' if paper else ''}".rstrip())
    for row in [*table.itertuples(), *data.assign(paper="").itertuples()]:
        digits = 2 if row.unit else 0
        print(f"{row.quantity:34}{row.value:14,.{digits}f} {row.unit:6}{row.paper}".rstrip())
    notes = {"rate": rate, "transfer": transfer, "extraction": extraction, "usable": peaks.USABLE}
    print(PLAN_NOTES.format(**notes, device=device))
    for each in fetched(params):
        print(f"To fetch: {each}.")
    if here:
        check_disk(Path(), disk)
    if (memory := device_memory(params.machine.device_memory)) is not None:
        peaks.check_memory(params, load.training_images, memory)


@app.command()
def import_official(
    checkpoint: Annotated[Path, options.argument("the last.ckpt of a training")],
    out: Annotated[Path, Argument(help="a new folder")],
) -> None:
    """Convert the authors' checkpoint to a diffusers folder."""
    from patchdm import official

    official.import_official(checkpoint, out)
    parts = sorted(path.name for path in out.iterdir())
    print(f"{out}: wrote {', '.join(parts)}")


@app.command()
@options.expanded
def sample(
    model: options.Model = None,
    *,
    seeds: Annotated[range, options.seed_range("one image each; 0:16 are the seeds 0 to 15")],
    out: Annotated[Path, options.output("folder of the images", "DIR")],
    size: Annotated[dict[str, int] | None, options.size()] = None,
    solver: Annotated[str | None, options.choice("solver of the steps", Solver)] = None,
    batch: Annotated[int, options.count("images denoised together")] = 8,
    form: Annotated[str, options.choice("PNG or tar files", Format, "--format")] = "png",
    shard_size: Annotated[int, options.count("images of a shard, which one process claims")] = 64,
    grid: Annotated[bool, Option("--grid", help="lay out images in DIR/grid.png")] = False,
    compiled: Annotated[
        bool, Option("--compile", help="by torch.compile, for many images")
    ] = False,
    **others: Unpack[options.Solving],
) -> None:
    """Sample one image per seed.

    The same command goes on after a kill, and shares the work with others that run it.
    """
    folder = _model(model)
    from patchdm.cli.sample import sample, write_contact_sheet

    chosen: dict[str, Any] = {"batch_size": batch, "format": form, "shard_size": shard_size}
    chosen |= {"compiled": compiled, **options.given(others)}
    with _progress("sample") as on_start:
        done = sample(folder, seeds, out, on_start, size, solver, **chosen)
    if not done:
        print(f"{out}: other processes are at work on the rest")
    else:
        print(f"{out}: done{f', see {write_contact_sheet(out)}' if grid else ''}")


@app.command()
@options.expanded
def inpaint(
    model: options.Model = None,
    *,
    image: options.Image,
    mask: Annotated[Path, options.argument("image of the same size, white where to generate")],
    out: options.File,
    seeds: options.Versions = range(1),
    **others: Unpack[options.Restoring],
) -> None:
    """Regenerate the white part of a mask, and nothing else."""
    paths, folder = options.versions(out, seeds, image, mask), _model(model)
    from patchdm.cli.restore import inpaint

    for path in inpaint(folder, image, mask, paths, **options.given(others)):
        print(f"{path}: done")


@app.command()
@options.expanded
def outpaint(
    model: options.Model = None,
    *,
    image: options.Image,
    out: options.File,
    left: options.Margin = 0,
    top: options.Margin = 0,
    right: options.Margin = 0,
    bottom: options.Margin = 0,
    seeds: options.Versions = range(1),
    **others: Unpack[options.Restoring],
) -> None:
    """Generate what lies beyond the borders of an image."""
    margins = {"left": left, "top": top, "right": right, "bottom": bottom}
    if not any(margins.values()):
        raise PatchDMError("--left, --top, --right, --bottom: found 0, expected one above 0")
    paths, folder = options.versions(out, seeds, image), _model(model)
    from patchdm.cli.restore import outpaint

    for path in outpaint(folder, image, margins, paths, **options.given(others)):
        print(f"{path}: done")


@app.command()
def save(
    model: options.OneModel,
    out: Annotated[Path, Argument(help="a new folder")],
    half: Annotated[str | None, options.choice("in which weights are stored", Half)] = None,
    licence: options.Licence = None,
) -> None:
    """Write a model as one diffusers folder, with a card and the hashes of its files."""
    folder = _model([model])
    from patchdm.cli import publish

    publish.save(folder, out, name=out.name, half=half, licence=licence)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"{out}: done, {size / 1e6:.1f} MB")


@app.command()
def push(
    model: options.OneModel,
    repository: Annotated[str, options.repository()],
    *,
    private: Annotated[bool, Option("--private", help="if it is created")] = False,
    branch: Annotated[str | None, Option("--revision", metavar="BRANCH", help="to push to")] = None,
    licence: options.Licence = None,
) -> None:
    """Upload a model and its card to the hub, with the token of `hf auth login` or HF_TOKEN."""
    folder = _model([model])
    from patchdm.cli import publish

    url = publish.push(folder, repository, private=private, branch=branch, licence=licence)
    print(f"{repository}: done, see {url}")


def _model(given: list[str] | None) -> Path:
    """Return the folder of the model; say which it is, if it is none of the user's."""
    if not sys.stderr.isatty():  # which shows the bars of a download
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    folder, about = options.model_of(given)
    if about:
        say(about)
    return folder


@contextlib.contextmanager
def _progress(name: str) -> Iterator[Callable[[int], Callable[[int], None]]]:
    """Show how many images are done, once their number is known; yield what that is told."""
    with contextlib.ExitStack() as stack:
        yield lambda total: stack.enter_context(progress(name, total, "images"))
