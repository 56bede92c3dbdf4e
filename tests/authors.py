"""Checkpoints as the authors' code would write them, for networks of any size."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from patchdm.official import OfficialModels, joined
from patchdm.official.names import encoder_names, latent_names, modulations, unet_names
from tests.golden.weights import golden_weight

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Sizes:
    """Sizes of one checkpoint; 0 images or layers: it has no table or latent model."""

    channels: Shape = (8, 16)
    res_blocks: int = 1
    attention: Shape = (1,)
    embed: int = 16
    time: int = 8
    code: int = 16
    encoder: Shape = ()
    encoder_res_blocks: int = 1
    encoder_attention: Shape = ()
    images: int = 0
    layers: int = 0
    hidden: int = 12


def state_dict(sizes: Sizes) -> dict[str, Tensor]:
    """Return a weight for every parameter of the authors' networks, by its name."""
    return dict(_state_dict(sizes))


@functools.cache
def _state_dict(sizes: Sizes) -> dict[str, Tensor]:
    return {name: golden_weight(name, shape) for name, shape in shapes(sizes).items()}


def shapes(sizes: Sizes) -> dict[str, Shape]:
    """Return names and shapes of all parameters."""
    modules = [*_unet(sizes)]
    if sizes.encoder:
        modules += _encoder(sizes)
    if sizes.layers:
        modules += _latent(sizes)
    result = {f"{name}.weight": shape for name, shape in modules}
    result |= {f"{name}.bias": shape[:1] for name, shape in modules}
    if sizes.images:
        result["encoder.semantic_enc.weight"] = (sizes.images, sizes.code)
    return result


Modules = Iterator[tuple[str, Shape]]


def _unet(sizes: Sizes) -> Modules:
    emb, half = sizes.embed, sizes.embed // 2
    yield from _mlp("time_embed.time_embed", sizes.time, half)
    yield from _mlp("time_embed.pos_embed", 128, half)
    if sizes.code != emb:
        yield from _mlp("time_embed.style", sizes.code, emb)
    skips = [sizes.channels[0]]
    yield "input_blocks.0.0", (skips[0], 3, 3, 3)
    for number, width, attends in _levels(sizes.channels, sizes.res_blocks, sizes.attention):
        yield from _residual(f"input_blocks.{number}.0", skips[-1], width, emb)
        if attends:
            yield from _attention(f"input_blocks.{number}.1", width)
        skips.append(width)
    width = skips[-1]
    yield from _middle("middle_block", width, emb)
    number = 0
    for level in reversed(range(len(sizes.channels))):
        for block in range(sizes.res_blocks + 1):
            out, part = sizes.channels[level], 1
            yield from _residual(f"output_blocks.{number}.0", width + skips.pop(), out, emb)
            if level in sizes.attention:
                yield from _attention(f"output_blocks.{number}.1", out)
                part = 2
            if level and block == sizes.res_blocks:
                yield from _residual(f"output_blocks.{number}.{part}", out, out, emb)
            width = out
            number += 1
    yield "out.0", (width,)
    yield "out.2", (3, width, 3, 3)


def _encoder(sizes: Sizes) -> Modules:
    width = sizes.encoder[0]
    yield "encoder.input_blocks.0.0", (width, 3, 3, 3)
    for number, out, attends in _levels(
        sizes.encoder, sizes.encoder_res_blocks, sizes.encoder_attention
    ):
        yield from _residual(f"encoder.input_blocks.{number}.0", width, out)
        if attends:
            yield from _attention(f"encoder.input_blocks.{number}.1", out)
        width = out
    yield from _middle("encoder.middle_block", width)
    yield "encoder.out.0", (width,)
    yield "encoder.out.3", (sizes.code, width, 1, 1)


def _latent(sizes: Sizes) -> Modules:
    yield from _mlp("latent_net.time_embed", 64, sizes.code)
    for layer in range(sizes.layers):
        name = f"latent_net.layers.{layer}"
        width = sizes.code + sizes.hidden if layer else sizes.code
        if layer == sizes.layers - 1:
            yield f"{name}.linear", (sizes.code, width)
            return
        yield f"{name}.linear", (sizes.hidden, width)
        yield f"{name}.linear_emb", (sizes.hidden, sizes.code)
        yield f"{name}.cond_layers.1", (sizes.hidden, sizes.code)
        yield f"{name}.norm", (sizes.hidden,)


def _levels(channels: Shape, res_blocks: int, attention: Shape) -> Iterator[tuple[int, int, bool]]:
    """Number and width of each block of an encoder, and whether it has attention."""
    number = 0
    for level, width in enumerate(channels):
        for _ in range(res_blocks):
            number += 1
            yield number, width, level in attention
        if level < len(channels) - 1:
            number += 1
            yield number, width, False  # down-sampling


def _middle(name: str, width: int, emb: int = 0) -> Modules:
    yield from _residual(f"{name}.0", width, width, emb)
    yield from _attention(f"{name}.1", width)
    yield from _residual(f"{name}.2", width, width, emb)


def _residual(name: str, width: int, out: int, emb: int = 0) -> Modules:
    yield f"{name}.in_layers.0", (width,)
    yield f"{name}.in_layers.2", (out, width, 3, 3)
    if emb:
        yield f"{name}.emb_layers.1", (2 * out, emb)
        yield f"{name}.cond_emb_layers.1", (out, emb)
        yield f"{name}.out_layers.0", (out,)
        yield f"{name}.out_layers.3", (out, out, 3, 3)
    if width != out:
        yield f"{name}.skip_connection", (out, width, 1, 1)


def _attention(name: str, width: int) -> Modules:
    yield f"{name}.norm", (width,)
    yield f"{name}.qkv", (3 * width, width, 1)
    yield f"{name}.proj_out", (width, width, 1)


def _mlp(name: str, width: int, out: int) -> Modules:
    yield f"{name}.0", (out, width)
    yield f"{name}.2", (out, out)


def as_official(models: OfficialModels) -> dict[str, Tensor]:
    """Return the weights under the authors' names."""
    pairs: list[tuple[Any, Any]] = [(models.unet, unet_names(models.unet))]
    if models.encoder:
        pairs.append((models.encoder, encoder_names(models.encoder)))
    if models.latent:
        pairs.append((models.latent, latent_names(models.latent)))
    state = {key: joined(parts).detach() for key, parts in modulations(models.unet).items()}
    for model, names in pairs:
        own = {n: w for n, w in model.named_parameters() if "_project." not in n}
        for ours, theirs in names:
            for leaf in ("weight", "bias"):
                if f"{ours}.{leaf}" in own:
                    state[f"{theirs}.{leaf}"] = own.pop(f"{ours}.{leaf}").data
        assert not own  # every parameter has a name of theirs
    if models.code_table:
        state["encoder.semantic_enc.weight"] = models.code_table.codes.data
    return state
