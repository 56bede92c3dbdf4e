"""Options of the `patchdm` command: what their help says, and how they are read.

Values are checked here, before anything is loaded. `main` names the option of a `BadParameter`.
"""

from __future__ import annotations

import inspect
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypedDict, get_args, get_type_hints

from typer import Argument, BadParameter, Option

from patchdm import saved
from patchdm.choices import Code, Positions, Precision, Tiling, checked_positions
from patchdm.errors import PatchDMError

MODELS = Path("data/models")
FILES = ".png", ".tif", ".dzi"
"""Names of the files that `patchdm panorama` writes: `patchdm.formats.large.SUFFIXES`."""
CODE = "global code: of the image, from the latent model, or from one to others: field"
DEVICE = "as torch names it; default: a GPU, if there is one"
GUIDANCE = "of (1 + W) eps(cond) - W eps(none); 0: none"


def option(
    meaning: str,
    metavar: str,
    read: Callable[[str], Any],
    expected: str,
    *flags: str,
    **details: Any,
) -> Any:
    """Return an option of Typer; `read` returns the value of a text, or None or a ValueError."""

    def parse(value: Any) -> Any:
        try:
            found = read(value) if isinstance(value, str) else value  # a default
        except ValueError:
            found = None
        if found is None:
            raise BadParameter(f"found {value}, expected {expected}")
        return found

    return Option(*flags, parser=parse, metavar=metavar, help=meaning, **details)


def count(meaning: str, *flags: str, least: int = 1, most: float = math.inf) -> Any:
    """Return an option that is a whole number."""

    def read(text: str) -> int | None:
        return int(text) if re.fullmatch("[0-9]+", text) and least <= int(text) <= most else None

    expected = f"at least {least}" if most == math.inf else f"{least} to {most}"
    return option(meaning, "N", read, expected, *flags)


def share(meaning: str, metavar: str) -> Any:
    """Return an option that is a number above 0, at most 1."""

    def read(text: str) -> float | None:
        return found if 0 < (found := float(text)) <= 1 else None

    return option(meaning, metavar, read, f"0 < {metavar} <= 1")


def number(meaning: str, metavar: str, expected: str, *flags: str, least: float) -> Any:
    """Return an option that is a finite number."""

    def read(text: str) -> float | None:
        return found if least <= (found := float(text)) < math.inf else None

    return option(meaning, metavar, read, expected, *flags)


def choice(meaning: str, literal: Any, *flags: str) -> Any:
    """Return an option that is one of the names of a Literal."""
    names = get_args(literal)

    def read(text: str) -> str | None:
        return text if text in names else None

    completion = {"autocompletion": lambda: names}
    return option(meaning, "|".join(names), read, ", ".join(names), *flags, **completion)


def seed_range(meaning: str, **details: Any) -> Any:
    """Return an option that is a range of seeds."""

    def read(text: str) -> range | None:
        match = re.fullmatch("([0-9]+):([0-9]+)", text)
        seeds = range(int(match[1]), int(match[2])) if match else range(0)
        return seeds if seeds and seeds.stop <= sys.maxsize else None  # so that they have a `len`

    expected = f"FIRST:END with FIRST below END, at most {sys.maxsize}, such as 0:16"
    return option(meaning, "FIRST:END", read, expected, **details)


def size(meaning: str = "in pixels; default: that of the training images") -> Any:
    """Return an option that is "width" and "height" in pixels."""

    def read(text: str) -> dict[str, int] | None:
        match = re.fullmatch("([1-9][0-9]*)x([1-9][0-9]*)", text)
        return match and {"width": int(match[1]), "height": int(match[2])}

    return option(meaning, "WxH", read, "WIDTHxHEIGHT, e.g. 1024x512")


def lattice() -> Any:
    """Return an option that is "columns" and "rows"."""

    def read(text: str) -> dict[str, int] | None:
        match = re.fullmatch("([1-9][0-9]*)x([1-9][0-9]*)", text)
        return match and {"columns": int(match[1]), "rows": int(match[2])}

    meaning = "columns and rows of the codes over the image; default: all in one row"
    return option(meaning, "CxR", read, "COLUMNSxROWS, e.g. 4x2")


def places() -> Any:
    """Return an option that is how positions beyond the training size are told."""

    def read(text: str) -> str:
        checked_positions(text)
        return text

    names = get_args(Positions)
    expected = f"{', '.join(names)}, or two of them"
    return option("beyond the training size; ROWS,COLUMNS apart", "|".join(names), read, expected)


def output(meaning: str, metavar: str) -> Any:
    """Return an option that is a path to write to, and no other option."""

    def read(text: str) -> Path | None:
        return None if text.startswith("-") else Path(text)

    return option(meaning, metavar, read, "a path without a leading -")


def folder(meaning: str, metavar: str) -> Any:
    """Return an option that is a folder to write to, and no image file."""

    def read(text: str) -> Path | None:
        path = Path(text)
        if path.suffix in FILES and not path.is_dir():
            raise BadParameter(
                f"found {text}, expected a folder; for a file `patchdm panorama --size WxH "
                f"--seeds FIRST:END --out {text}`"
            )
        return None if text.startswith("-") else path

    return option(f"folder {meaning}", metavar, read, "a path without a leading -")


def argument(meaning: str) -> Any:
    """Return an argument that is the path of something."""

    def parse(value: str) -> Path:
        if not Path(value).exists():
            raise PatchDMError(f"{value}: not found")
        return Path(value)

    return Argument(parser=parse, help=meaning)


def repository() -> Any:
    """Return an argument that is OWNER/NAME."""

    def parse(text: str) -> str:
        if not (name := saved.HUB_NAME.fullmatch(text)) or name[2]:
            raise PatchDMError(f"repository: found {text}, expected OWNER/NAME")
        return text

    return Argument(parser=parse, metavar="OWNER/NAME", help="of the hub; created if it is new")


class Solving(TypedDict):
    """Options of `sample`, `inpaint` and `outpaint`, named as the pipeline names its arguments.

    None: as in the params.yaml of the model's run, or as the model's folder says.
    """

    device: Annotated[str | None, Option(metavar="NAME", help=DEVICE)]
    num_inference_steps: Annotated[int | None, count("solver steps", "--steps")]
    guidance_scale: Annotated[
        float | None, number(GUIDANCE, "W", "at least 0", "--guidance", least=0)
    ]
    mixed_precision: Annotated[str | None, choice("what the network computes in", Precision)]
    tiling: Annotated[str | None, choice("how a step joins patches", Tiling)]
    positions: Annotated[str | None, places()]
    rows_per_chunk: Annotated[int | None, count("patch rows worked on at once, to save memory")]


class Restoring(Solving):
    """Options of `inpaint` and `outpaint`, likewise."""

    code: Annotated[str | None, choice(CODE, Code)]
    resamplings: Annotated[int | None, count("times a step is made, to fit new to given")]
    blend_width: Annotated[int | None, count("pixels over which new blends into given", least=0)]
    native: Annotated[
        bool | None, Option("--native", help="all pixels of an image larger than the training's")
    ]


Model = Annotated[
    list[str] | None,
    Argument(
        help="folder of save_pretrained, import-official or a run, or OWNER/NAME of the hub; "
        f"default: {MODELS}, else the bundled model"
    ),
]
"""At most one. What may be left out before other arguments must be a list, as Click takes it."""
OneModel = Annotated[str, Argument(metavar="MODEL", help="as of sample")]
Licence = Annotated[
    str | None, Option("--license", metavar="NAME", help="of the weights, e.g. apache-2.0")
]
Image = Annotated[Path, argument("file (JPEG, PNG, WebP, AVIF, TIFF, HEIC), of any size")]
File = Annotated[Path, output("PNG file; of several seeds, each goes behind the name", "FILE")]
Versions = Annotated[range, seed_range("one version each; default: 0:1", show_default=False)]
Compiled = Annotated[bool, Option("--compile", help="faster on GPUs, after minutes of compiling")]
Margin = Annotated[int, count("pixels to generate there", least=0)]


def expanded(command: Callable[..., None]) -> Callable[..., None]:
    """Show Typer the keys of `**others: Unpack[...]`, a command's last parameter, as options."""
    signature = inspect.signature(command, eval_str=True)
    *own, others = signature.parameters.values()
    (options,) = get_args(others.annotation)
    own += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hint)
        for name, hint in get_type_hints(options, include_extras=True).items()
    ]
    command.__signature__ = signature.replace(parameters=own)  # type: ignore[attr-defined]
    return command


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def model_of(models: Sequence[str] | None) -> tuple[Path, str]:
    """Return the folder of the model that is given, or of the default, and what to say of it.

    Raises:
        PatchDMError: several are given, or what is given is no model.
    """
    given, *more = models or [str(MODELS)]
    if more:
        raise PatchDMError(f"model: found {given} and {more[0]}, expected one folder")
    model = Path(given)
    if (model / saved.INDEX).is_file() or (model / "patchdm").is_dir():
        return model, ""
    if not models:
        folder = saved.bundled()
        return folder, _about(f"bundled {folder.parent.name}/{folder.name}", folder, saved.SHOWS)
    name = saved.HUB_NAME.fullmatch(given)
    if name and model != MODELS and not model.exists():
        from patchdm import hub  # noqa: PLC0415 - slow

        folder = hub.download(name[1], name[2])
        return folder, _about(f"{name[1]}@{folder.name} of the hub", folder)
    raise PatchDMError(
        f"{given}: found neither model_index.json nor patchdm/, expected a folder of "
        "save_pretrained or import-official, data/models of a run, or OWNER/NAME of the hub"
    )


def _about(name: str, folder: Path, *more: str) -> str:
    return f"model: {', '.join(text for text in (name, saved.image_size(folder), *more) if text)}"


def versions(out: Path, seeds: range, *files: Path) -> dict[int, Path]:
    """Return the PNG file of each seed; refuse another file, and those that are read."""
    if out.suffix != ".png" or out.is_dir():
        raise PatchDMError(f"--out: found {out}, expected a file named .png")
    several = len(seeds) > 1
    paths = {seed: out.with_stem(f"{out.stem}-{seed:06d}") if several else out for seed in seeds}
    for path in paths.values():
        if path.exists() and any(path.samefile(file) for file in files):
            raise PatchDMError(f"--out: found {path}, which is the image or mask, expected another")
    return paths
