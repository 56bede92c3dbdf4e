"""The authors' name of each of our modules (facts of their checkpoints).

Their networks are numbered sequences, ours have names. Each function yields pairs
(our module, their module), both dotted, also for modules that a model lacks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import nn

from patchdm.models import LatentMLP, PatchUNet, SemanticEncoder

Names = Iterator[tuple[str, str]]
"""(our module, their module), both dotted."""

MLP = {"0": "0", "2": "2"}
RESIDUAL = {
    "norm_in": "in_layers.0",
    "conv_in": "in_layers.2",
    "modulation.embed": "emb_layers.1",
    "modulation.cond": "cond_emb_layers.1",
    "norm_out": "out_layers.0",
    "conv_out": "out_layers.3",
    "skip": "skip_connection",
}
ATTENTION = {"norm": "norm", "qkv": "qkv", "out": "proj_out"}
LATENT_LAYER = {"linear": "linear", "scale": "cond_layers.1", "norm": "norm"}

CODE_TABLE = "encoder.semantic_enc.weight"
OLD_NAMES = {"semantic_enc.semantic_enc.weight": CODE_TABLE}
"""Names of early checkpoints."""
STATISTICS = {"mean": "conds_mean", "std": "conds_std"}
"""Our buffers of the latent model -> theirs, which are outside the networks."""
IGNORED = "x_T"
"""Also outside the networks: the noise of progress pictures."""


def unet_names(unet: PatchUNet) -> Names:
    """Pair the modules of the image model."""
    yield from _table(MLP, "time_embed", "time_embed.time_embed")
    yield from _table(MLP, "position_embed", "time_embed.pos_embed")
    yield from _table(MLP, "cond_embed", "time_embed.style")
    yield "stem", "input_blocks.0.0"
    for index, block in enumerate(unet.encoder):
        yield from _block(block, f"encoder.{index}", f"input_blocks.{index + 1}")
    yield from _block(unet.middle[0], "middle.0", "middle_block")
    yield from _block(unet.middle[1], "middle.1", "middle_block", first=2)
    for index, block in enumerate(unet.decoder):
        yield from _block(block, f"decoder.{index}", f"output_blocks.{index}")
    yield from _table(MLP, "head", "out")


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


def _block(block: nn.Module, ours: str, theirs: str, first: int = 0) -> Names:
    """A block of ours is a sequence of theirs, numbered from `first`, without gaps."""
    parts = [part for part in ("res", "attention", "resample") if getattr(block, part) is not None]
    for index, part in enumerate(parts, first):
        table = ATTENTION if part == "attention" else RESIDUAL
        yield from _table(table, f"{ours}.{part}", f"{theirs}.{index}")


def _table(table: Mapping[str, str], ours: str, theirs: str) -> Names:
    for name, official in table.items():
        yield f"{ours}.{name}", f"{theirs}.{official}"
