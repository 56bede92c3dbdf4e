"""The options of `patchdm sample`, `inpaint` and `outpaint`, as argparse takes them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from patchdm.errors import PatchDMError

Options = dict[str, dict[str, Any]]


def _count(option: str, least: int = 1) -> Callable[[str], int]:
    """Return the type of an option that counts something."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and int(text) >= least):
            raise PatchDMError(f"{option}: found {text}, expected at least {least}")
        return int(text)

    return parse


def _guidance(text: str) -> float:
    try:
        scale = float(text)
    except ValueError:
        scale = math.nan
    if not 0 <= scale < math.inf:
        raise PatchDMError(f"--guidance: found {text}, expected at least 0")
    return scale


def _number(option: str, meaning: str, *, least: int = 1, **others: Any) -> Options:
    """Return an option that counts something; its default, where it has one, is in its help."""
    shown = "; default: %(default)s" if "default" in others else ""
    return {
        option: {"type": _count(option, least), "metavar": "N", "help": meaning + shown, **others}
    }


MODEL: Options = {
    "model": {
        "nargs": "?",
        "type": Path,
        "default": Path("data/models"),
        "help": "folder of save_pretrained or import-official, or of a run; default: %(default)s",
    },
    "--device": {"help": "as torch names it; default: a GPU where there is one"},
}
"""The model; what is not said of the rest is as in the params.yaml of its run."""

SOLVING: Options = {
    **_number("--steps", "solver steps", dest="num_inference_steps"),
    "--guidance": {
        "dest": "guidance_scale",
        "type": _guidance,
        "metavar": "W",
        "help": "of (1 + W) eps(cond) - W eps(none); 0: none",
    },
    "--tiling": {"help": "shifted, alternate, average or blend"},
    "--positions": {"help": "beyond the training size: extrapolate or rescale"},
    **_number("--rows-per-chunk", "patch rows worked on at once, to save memory"),
}

SAMPLE: Options = {
    **MODEL,
    "--seeds": {
        "required": True,
        "metavar": "FIRST:END",
        "help": "one image each; 0:16 are the seeds 0 to 15",
    },
    "--out": {"required": True, "type": Path, "metavar": "DIR", "help": "folder of the images"},
    "--size": {"metavar": "WxH", "help": "in pixels; default: that of the training images"},
    "--solver": {
        "dest": "solver_name",
        "metavar": "SOLVER",
        "help": "ddim, dpm-solver++ or unipc",
    },
    **SOLVING,
    **_number("--batch", "images denoised together", dest="batch_size", default=8),
    "--format": {
        "default": "png",
        "help": "png, or webdataset (tar files); default: %(default)s",
    },
    **_number("--shard-size", "images of a shard, which one process claims", default=64),
    "--grid": {"action": "store_true", "help": "lay out the first images in DIR/grid.png"},
}

RESTORE: Options = {
    **MODEL,
    "image": {"type": Path, "help": "image file (JPEG, PNG, WebP, AVIF, TIFF, HEIC), of any size"},
    "--out": {"required": True, "type": Path, "metavar": "FILE", "help": "PNG file"},
    "--seeds": {
        "default": "0:1",
        "metavar": "FIRST:END",
        "help": "one version each, of several as FILE-SEED.png; default: %(default)s",
    },
    **SOLVING,
    "--code": {"help": "global code: of the image, or from the latent model (image, latent)"},
    **_number("--resamplings", "times a step is made, to bring new and given in line"),
    **_number("--blend-width", "pixels over which new content takes on the given", least=0),
}

INPAINT: Options = {
    **RESTORE,
    "mask": {"type": Path, "help": "image of the same size, white where pixels are made"},
}

OUTPAINT: Options = {
    **RESTORE,
    **{
        name: option
        for side in ("left", "top", "right", "bottom")
        for name, option in _number(f"--{side}", "pixels to make there", least=0, default=0).items()
    },
}
