"""The `patchdm` command: typed functions, run in the repository's root.

Heavy imports stand inside the functions, so that help and refusals come at once.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn, Unpack

import typer
from typer import Argument, Option

from patchdm.choices import Format, Half, Solver, Wrap
from patchdm.cli import options, runs
from patchdm.cli.extras import to_install
from patchdm.console import counted, say, show_any_text, stepped
from patchdm.errors import MISTAKES, PatchDMError, mistake

BROKEN_PIPE = 128 + 13
"""Exit status of what SIGPIPE ends, a signal that Windows has no name for."""

SHOW_FIT = functools.partial(stepped, "fit", "steps")

app = typer.Typer(rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]})
app.add_typer(runs.app)


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
        sys.exit(BROKEN_PIPE)
    except MISTAKES as error:
        if (line := mistake(error)) is None:
            raise
        sys.exit(f"error: {line}")
    except ModuleNotFoundError as error:
        command = next(iter(sys.argv[1:] if argv is None else argv), "")
        if (line := to_install(error, command)) is None:
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
    out: Annotated[Path, options.folder("of the images", "DIR")],
    size: Annotated[dict[str, int] | None, options.size()] = None,
    solver: Annotated[str | None, options.choice("solver of the steps", Solver)] = None,
    batch: Annotated[int, options.count("images denoised together")] = 8,
    form: Annotated[str, options.choice("PNG or tar files", Format, "--format")] = "png",
    shard_size: Annotated[int, options.count("images of a shard, which one process claims")] = 64,
    grid: Annotated[bool, Option("--grid", help="lay out images in DIR/grid.png")] = False,
    code_seed: Annotated[
        int | None, options.count("whose code all images get, in any size", least=0)
    ] = None,
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
    chosen |= {"compiled": compiled, **options.given({"code_seed": code_seed, **others})}
    with counted("sample", "images") as on_start:
        done = sample(folder, seeds, out, on_start, size, solver, **chosen)
    if not done:
        print(f"{out}: other processes are at work on the rest")
    else:
        print(f"{out}: done{f', see {write_contact_sheet(out)}' if grid else ''}")


@app.command()
@options.expanded
def panorama(
    model: options.Model = None,
    *,
    size: Annotated[dict[str, int], options.size("in pixels")],
    out: Annotated[Path, options.output("NAME.png, .tif (BigTIFF) or .dzi (DeepZoom)", "FILE")],
    seeds: Annotated[
        range | None, options.seed_range("of its codes, those of `sample`; 0:9 are nine")
    ] = None,
    image: Annotated[Path | None, Option(metavar="FILE", help="to begin with, enlarged")] = None,
    strength: Annotated[float | None, options.share("share of steps made of it", "S")] = None,
    codes: Annotated[dict[str, int] | None, options.lattice()] = None,
    wrap: Annotated[str | None, options.choice("axes that close on themselves", Wrap)] = None,
    solver: Annotated[str | None, options.choice("solver of the steps", Solver)] = None,
    viewer: Annotated[bool, Option("--viewer", help="write NAME.html, which shows it")] = False,
    force: Annotated[bool, Option("--force", help="replace a file that is there")] = False,
    **others: Unpack[options.Solving],
) -> None:
    """Make one image of any size, from the landscapes of some seeds, without a seam between.

    Or from another image, to which it adds detail. It may be larger than memory. The same command
    goes on after a kill.
    """
    if image is None:
        if len(seeds or ()) < 2:
            raise PatchDMError(
                f"--seeds: found {len(seeds or ())}, expected two or more, or --image; "
                "`patchdm sample` makes images of one"
            )
        if strength is not None:
            raise PatchDMError(f"--strength: found {strength} without --image")
    elif not image.exists():
        raise PatchDMError(f"{image}: not found")
    seeds = seeds or range(1)
    lattice = codes or {"columns": len(seeds) if image is None else 1, "rows": 1}
    from patchdm.cli.request import check_panorama

    check_panorama(size, seeds, out, lattice=lattice, image=image, viewed=viewer, force=force)
    folder = _model(model)
    from patchdm.cli.panorama import panorama

    chosen = options.given(others) | options.given({"wrap": wrap, "strength": strength})
    with counted("panorama", "blocks") as on_start:
        written = panorama(
            folder, size, seeds, out, on_start,
            tell=say, lattice=lattice, solver_name=solver, viewed=viewer, image=image,
            show_fit=SHOW_FIT, **chosen,
        )  # fmt: skip
    for path in written:
        print(f"{path}: done")


@app.command("app")
def studio(
    model: options.Model = None,
    *,
    out: Annotated[Path, options.output("folder of what is made", "DIR")] = Path("studio"),
    host: Annotated[
        str, Option(metavar="ADDRESS", help="another than loopback needs a token, which it prints")
    ] = "127.0.0.1",
    port: Annotated[int, options.count("0: any that is free", least=0, most=65535)] = 8765,
    name: Annotated[
        list[str] | None, Option("--name", metavar="HOST", help="other name of this machine")
    ] = None,
    quiet: Annotated[bool, Option("--no-browser", help="do not open the page")] = False,
    photographs: Annotated[
        Path | None,
        Option(
            metavar="PATH", help="folder or archive that the model learnt from; default: its run's"
        ),
    ] = None,
    device: Annotated[str | None, Option(metavar="NAME", help=options.DEVICE)] = None,
) -> None:
    """Serve the studio on this machine: sample, inpaint and outpaint in a browser."""
    if photographs is not None and not photographs.exists():
        raise PatchDMError(f"--photographs: {photographs}: not found")
    folder = _model(model)
    from patchdm.app.serve import serve

    given = Path((model or [""])[0])  # no path of this machine is shown
    label = str(given) if model and not given.exists() else given.name
    serve(
        folder, label, out,
        host=host, port=port, names=name or [], browser=not quiet, tell=say, device=device,
        photographs=photographs,
    )  # fmt: skip


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
    from patchdm.cli.restore import masked, restore

    chosen = options.given(others)
    task = masked(image, mask)
    for path in restore(folder, task, paths, tell=say, show_fit=SHOW_FIT, **chosen):
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
    from patchdm.cli.restore import beyond, restore

    chosen = options.given(others)
    task = beyond(image, margins)
    for path in restore(folder, task, paths, tell=say, show_fit=SHOW_FIT, **chosen):
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
