"""The authors' name of each of our modules (facts of their checkpoints).

Their networks are numbered sequences, ours have names. Most functions yield pairs
(our module, their module), both dotted, also for modules that a model lacks. Each of their
residual blocks projects time, position and code itself; ours lie side by side: see `modulations`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from patchdm.models import LatentMLP, PatchUNet, SemanticEncoder

Names = Iterator[tuple[str, str]]
"""(our module, their module), both dotted."""
Joined = list[list[Tensor]]
"""Equally large parts of ours, row by row, that joined are one of their tensors."""
_Place = tuple[Any, str, str, int]
"""A block, our and their name of it, and the number of its first part there."""

MLP = {"0": "0", "2": "2"}
RESIDUAL = {
    "norm_in": "in_layers.0",
    "conv_in": "in_layers.2",
    "norm_out": "out_layers.0",
    "conv_out": "out_layers.3",
    "skip": "skip_connection",
}
ATTENTION = {"norm": "norm", "qkv": "qkv", "out": "proj_out"}
LATENT_LAYER = {"linear": "linear", "scale": "cond_layers.1", "norm": "norm"}

CODE_TABLE = "encoder.semantic_enc.weight"
OLD_NAMES = {"semantic_enc.semantic_enc.weight": CODE_TABLE}
"""Names of early checkpoints."""
STATISTICS = {"scale.mean": "conds_mean", "scale.std": "conds_std"}
"""Our buffers of the latent model -> theirs, which are outside the networks."""
IGNORED = "x_T"
"""Also outside the networks: the noise of progress pictures."""


def unet_names(unet: PatchUNet) -> Names:
    """Pair the modules of the image model."""
    yield from _table(MLP, "time_embed", "time_embed.time_embed")
    yield from _table(MLP, "position_embed", "time_embed.pos_embed")
    yield from _table(MLP, "cond_embed", "time_embed.style")
    yield "encoder.stem", "input_blocks.0.0"
    for blocks in _halves(unet):
        for block, ours, theirs, first in blocks:
            yield from _block(block, ours, theirs, first)
    yield from _table(MLP, "decoder.head", "out")


def modulations(unet: PatchUNet) -> dict[str, Joined]:
    """Return their key -> its parts in ours, of the projections for the residual blocks."""
    found: dict[str, Joined] = {}
    for half, blocks in enumerate(_halves(unet)):
        time, position, cond = (
            getattr(unet, f"{name}_project")[half] for name in ("time", "position", "cond")
        )
        start, width = 0, cond.out_features
        for block, _, theirs, first in blocks:
            numbers = [first + n for n, part in enumerate(_parts(block)) if part != "attention"]
            for number, channels in zip(numbers, block.modulated, strict=True):
                scale = slice(start, start + channels)
                shift = slice(width + start, width + start + channels)
                embed, code = (
                    f"{theirs}.{number}.{x}.1" for x in ("emb_layers", "cond_emb_layers")
                )
                found[f"{embed}.weight"] = [
                    [time.weight[rows], position.weight[rows]] for rows in (scale, shift)
                ]
                found[f"{embed}.bias"] = [[position.bias[rows]] for rows in (scale, shift)]
                found[f"{code}.weight"] = [[cond.weight[scale]]]
                found[f"{code}.bias"] = [[cond.bias[scale]]]
                start += channels
    return found


def encoder_names(encoder: SemanticEncoder) -> Names:
    """Pair the modules of the joint encoder."""
    *levels, middle, last = encoder.blocks
    yield "stem", "encoder.input_blocks.0.0"
    for index, block in enumerate(levels):
        yield from _block(block, f"blocks.{index}", f"encoder.input_blocks.{index + 1}")
    yield from _block(middle, f"blocks.{len(levels)}", "encoder.middle_block")
    yield from _block(last, f"blocks.{len(levels) + 1}", "encoder.middle_block", first=2)
    yield from _table({"0": "0", "3": "3"}, "head", "encoder.out")


def latent_names(latent: LatentMLP) -> Names:
    """Pair the modules of the latent model."""
    yield from _table(MLP, "time_embed", "latent_net.time_embed")
    for index in range(len(latent.trunk)):
        yield from _table(LATENT_LAYER, f"trunk.{index}", f"latent_net.layers.{index}")
    yield "head", f"latent_net.layers.{len(latent.trunk)}.linear"


def _halves(unet: PatchUNet) -> tuple[list[_Place], list[_Place]]:
    """Return the blocks of f_E and of f_D."""
    f_e, f_d = unet.encoder, unet.decoder
    down = [
        (b, f"encoder.blocks.{n}", f"input_blocks.{n + 1}", 0) for n, b in enumerate(f_e.blocks)
    ]
    middle = [(b, f"encoder.middle.{n}", "middle_block", 2 * n) for n, b in enumerate(f_e.middle)]
    up = [(b, f"decoder.blocks.{n}", f"output_blocks.{n}", 0) for n, b in enumerate(f_d.blocks)]
    return down + middle, up


def _parts(block: nn.Module) -> list[str]:
    return [part for part in ("res", "attention", "resample") if getattr(block, part) is not None]


def _block(block: nn.Module, ours: str, theirs: str, first: int = 0) -> Names:
    """A block of ours is a sequence of theirs, numbered from `first`, without gaps."""
    for index, part in enumerate(_parts(block), first):
        table = ATTENTION if part == "attention" else RESIDUAL
        yield from _table(table, f"{ours}.{part}", f"{theirs}.{index}")


def _table(table: Mapping[str, str], ours: str, theirs: str) -> Names:
    for name, official in table.items():
        yield f"{ours}.{name}", f"{theirs}.{official}"
