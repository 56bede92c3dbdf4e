"""Import the authors' checkpoints as networks and diffusers folders.

The shapes of the weights give every size except the patch's. The checkpoint must hold exactly the
parameters of the models of these sizes. `patchdm.official.names` has the authors' names.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from patchdm.diffusion.schedules import latent_scheduler, paper_scheduler
from patchdm.errors import PatchDMError
from patchdm.files import replacing
from patchdm.models import CodeTable, LatentMLP, PatchUNet, SemanticEncoder
from patchdm.official import names as authors
from patchdm.official.inert_pickle import read_lightning
from patchdm.pipeline import PatchDMPipeline

PATCH_SIZE = 64
"""Side of a patch if a checkpoint does not say (the authors' default)."""


@dataclass(frozen=True)
class OfficialModels:
    """The networks of one checkpoint, in eval mode; None: the checkpoint has none."""

    unet: PatchUNet
    encoder: SemanticEncoder | None = None
    code_table: CodeTable | None = None
    latent: LatentMLP | None = None


def load_official(
    state_dict: Mapping[str, Tensor], *, patch_size: int = PATCH_SIZE
) -> OfficialModels:
    """Build the networks of a state dict from the authors' code.

    Args:
        state_dict: by their names, bare or after `model.` or `ema_model.`; the EMA is preferred.
        patch_size: side p of a patch in pixels, a multiple of 2 ** levels.

    Raises:
        PatchDMError: a key is missing, surplus or of the wrong shape, or a size does not fit.
    """
    state = _Checkpoint(_networks(state_dict))
    try:
        found = {"unet": _unet(state, patch_size)}
        config = found["unet"].model.config
        if state.children("encoder.input_blocks"):
            found["encoder"] = _encoder(state, config.cond_dim, config.res_blocks)
        if authors.CODE_TABLE in state.tensors:
            table = CodeTable(state.shape(authors.CODE_TABLE, 2)[0], config.cond_dim)
            found["code_table"] = _Network(table, {authors.CODE_TABLE: [[table.codes]]})
        if state.children("latent_net"):
            found["latent"] = _latent(state, config.cond_dim)
    except ValueError as error:  # no model can have these sizes
        raise PatchDMError(str(error)) from None
    _check(found.values(), state)
    for network in found.values():
        network.fill(state)
    models: dict[str, Any] = {name: network.model for name, network in found.items()}
    return OfficialModels(**models)


def import_official(checkpoint: Path, out_dir: Path) -> None:
    """Write a Lightning checkpoint of the authors as a diffusers folder.

    `PatchDMPipeline` loads it: `unet/`, and if the checkpoint has them `encoder/` or `code_table/`
    and `latent/`, and the paper's schedulers; weights are safetensors. Nothing that the checkpoint
    names is imported or called.

    Raises:
        PatchDMError: the checkpoint cannot be read, tries to run code or does not fit, or
            `out_dir` exists.
    """
    if out_dir.exists():
        raise PatchDMError(f"{out_dir}: exists, expected a new folder")
    weights, hyper_parameters = read_lightning(checkpoint)
    patch_size = hyper_parameters.get("patch_size", PATCH_SIZE)
    try:
        models = load_official(weights, patch_size=patch_size)
    except PatchDMError as error:
        raise PatchDMError(f"{checkpoint}: {error}") from None
    with replacing(out_dir) as fresh:
        PatchDMPipeline(
            **vars(models),
            scheduler=paper_scheduler(),
            latent_scheduler=latent_scheduler() if models.latent is not None else None,
        ).save_pretrained(fresh)


@dataclass(frozen=True)
class _Checkpoint:
    """Tensors by the authors' bare names."""

    tensors: Mapping[str, Tensor]

    def shape(self, key: str, dims: int) -> tuple[int, ...]:
        """Return the shape of a tensor; refuse a missing one or another number of dimensions."""
        if key not in self.tensors:
            raise PatchDMError(f"no checkpoint of Patch-DM, or a part of one: missing {key}")
        shape = tuple(self.tensors[key].shape)
        if len(shape) != dims:
            raise PatchDMError(f"misshapen {key}: found {shape}, expected {dims} dimensions")
        return shape

    def children(self, module: str) -> set[str]:
        """Return the names directly below a module."""
        start = f"{module}."
        keys = (key.removeprefix(start) for key in self.tensors if key.startswith(start))
        return {key.partition(".")[0] for key in keys}

    def numbered(self, module: str) -> list[str]:
        """Return the children 0, 1, .. up to the first gap."""
        names = self.children(module)
        numbers = itertools.takewhile(lambda number: str(number) in names, itertools.count())
        return [f"{module}.{number}" for number in numbers]

    def attended(self, blocks: Iterable[str]) -> list[int]:
        """Return the numbers of the blocks that have attention."""
        names = set(authors.ATTENTION.values())
        return [n for n, block in enumerate(blocks) if names & self.children(f"{block}.1")]

    def is_residual(self, module: str) -> bool:
        names = {name.partition(".")[0] for name in authors.RESIDUAL.values()}
        return bool(names & self.children(module))

    def widths(self, blocks: str, firsts: range) -> tuple[int, ...]:
        """Return the output channels of the first block of each level."""
        keys = [f"{blocks}.{number}.0.in_layers.2.weight" for number in firsts]
        return tuple(self.shape(key, 4)[0] for key in keys)


@dataclass(frozen=True)
class _Network:
    """One of our models and what the authors' keys are in it."""

    model: Any
    weights: Mapping[str, authors.Joined]
    """Their key -> parts of ours."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Their second key of a parameter -> the key that is read."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return their keys with the expected shapes."""
        shapes = {key: tuple(joined(parts).shape) for key, parts in self.weights.items()}
        for key in shapes:
            if key.endswith(("qkv.weight", "proj_out.weight")):
                shapes[key] += (1,)  # a convolution there, a linear layer here
        return shapes | {alias: shapes[key] for alias, key in self.aliases.items()}

    @torch.no_grad()
    def fill(self, state: _Checkpoint) -> None:
        """Copy the weights into the model."""
        for key, rows in self.weights.items():
            for row, parts in zip(state.tensors[key].chunk(len(rows)), rows, strict=True):
                for theirs, ours in zip(row.chunk(len(parts), dim=-1), parts, strict=True):
                    ours.copy_(theirs.reshape(ours.shape))
        self.model.eval()


def joined(rows: authors.Joined) -> Tensor:
    """Return one of the authors' tensors, of parts of ours."""
    return torch.cat([torch.cat(parts, dim=1) if len(parts) > 1 else parts[0] for parts in rows])


def _weights(model: Any, modules: authors.Names) -> dict[str, authors.Joined]:
    """Return their key -> our parameter, for the listed modules that the model has."""
    own = model.state_dict()
    return {
        f"{theirs}.{leaf}": [[own[f"{ours}.{leaf}"]]]
        for ours, theirs in modules
        for leaf in ("weight", "bias")
        if f"{ours}.{leaf}" in own
    }


def _networks(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Choose the EMA, raw or bare names and remove their prefix; keep the code statistics."""
    groups: dict[str, dict[str, Tensor]] = {"ema_model.": {}, "model.": {}, "": {}}
    for key, value in state_dict.items():
        if not isinstance(value, Tensor):
            raise PatchDMError(f"misshapen {key}: found {type(value).__name__}, expected a tensor")
        prefix = next(prefix for prefix in groups if key.startswith(prefix))
        name = key.removeprefix(prefix)
        groups[prefix][authors.OLD_NAMES.get(name, name)] = value
    ema, raw, bare = groups.values()
    bare.pop(authors.IGNORED, None)
    for key in authors.STATISTICS.values():
        if key in bare:
            bare[key] = bare[key].flatten()  # one row there, a vector here
    surplus = [key for key in bare if (ema or raw) and key not in authors.STATISTICS.values()]
    surplus += [f"model.{key}" for key in raw if ema and key not in ema]
    if surplus:
        raise PatchDMError(_listing("surplus", surplus))
    return (ema or raw) | bare


def _unet(state: _Checkpoint, patch_size: int) -> _Network:
    """Reconstruct the U-Net: an up-sampling block at the end of a decoder block ends a level."""
    decoder = state.numbered("output_blocks")
    ends = [
        number
        for number, block in enumerate(decoder)
        if state.is_residual(f"{block}.1") or state.is_residual(f"{block}.2")
    ]
    levels = len(ends) + 1
    per_level = 1 + ends[0] if ends else len(decoder)
    down = [number // per_level for number in state.attended(state.numbered("input_blocks")[1:])]
    up = [levels - 1 - number // per_level for number in state.attended(decoder)]
    time_dim, time_channels = state.shape("time_embed.time_embed.0.weight", 2)
    cond_dim = 2 * time_dim
    if state.children("time_embed.style"):
        cond_dim = state.shape("time_embed.style.0.weight", 2)[1]
    firsts = range(0, levels * per_level, max(per_level, 1))
    model = PatchUNet(
        patch_size=patch_size,
        in_channels=state.shape("input_blocks.0.0.weight", 4)[1],
        channels=state.widths("output_blocks", firsts)[::-1],
        res_blocks=per_level - 1,
        attention_levels=tuple(sorted({*down, *up})),
        embed_dim=2 * time_dim,
        time_channels=time_channels,
        position_channels=state.shape("time_embed.pos_embed.0.weight", 2)[1] // 2,
        cond_dim=cond_dim,
        unconditional=True,  # their training drops code and position, whatever its settings
    )
    weights = _weights(model, authors.unet_names(model)) | authors.modulations(model)
    return _Network(model, weights)


def _encoder(state: _Checkpoint, code_dim: int, unet_res_blocks: int) -> _Network:
    """Reconstruct the encoder: its down-sampling blocks are not marked, so try numbers of blocks.

    The first is that of the U-Net, the authors' choice. If no number fits, errors refer to it.
    """
    blocks = state.numbered("encoder.input_blocks")
    attended = state.attended(blocks[1:])
    in_channels = state.shape("encoder.input_blocks.0.0.weight", 4)[1]
    found = {k: tuple(v.shape) for k, v in state.tensors.items() if k.startswith("encoder.")}
    found.pop(authors.CODE_TABLE, None)

    def network(res_blocks: int) -> _Network:
        per_level = res_blocks + 1
        levels = max(len(blocks) // per_level, 1)
        firsts = range(1, levels * per_level, per_level)
        with torch.device("meta"):
            model = SemanticEncoder(
                in_channels=in_channels,
                channels=state.widths("encoder.input_blocks", firsts),
                res_blocks=res_blocks,
                attention_levels=tuple(sorted({number // per_level for number in attended})),
                code_dim=code_dim,
            )
        return _Network(model, _weights(model, authors.encoder_names(model)))

    likeliest = network(unet_res_blocks)
    others = map(network, range(1, len(blocks)))
    fitting = (one for one in itertools.chain([likeliest], others) if one.shapes() == found)
    chosen = next(fitting, likeliest)
    model = SemanticEncoder.from_config(chosen.model.config)
    return _Network(model, _weights(model, authors.encoder_names(model)))


def _latent(state: _Checkpoint, code_dim: int) -> _Network:
    """Reconstruct the latent model: its last layer is our head."""
    model = LatentMLP(
        code_dim=code_dim,
        layers=len(state.numbered("latent_net.layers")),
        hidden=state.shape("latent_net.layers.0.linear.weight", 2)[0],
        time_channels=state.shape("latent_net.time_embed.0.weight", 2)[1],
    )
    weights = _weights(model, authors.latent_names(model))
    # They register one layer under two names; the later of two values is valid.
    scales = [key for key in weights if "cond_layers.1" in key]
    aliases = {key.replace("cond_layers.1", "linear_emb"): key for key in scales}
    if any(key in state.tensors for key in authors.STATISTICS.values()):
        weights |= {key: [[model.get_buffer(ours)]] for ours, key in authors.STATISTICS.items()}
    return _Network(model, weights, aliases)


def _check(networks: Iterable[_Network], state: _Checkpoint) -> None:
    """Raise one PatchDMError that names every key that is missing, surplus or misshapen."""
    expected = {key: shape for network in networks for key, shape in network.shapes().items()}
    found = {key: tuple(tensor.shape) for key, tensor in state.tensors.items()}
    problems = {
        "missing": [key for key in expected if key not in found],
        "surplus": [key for key in found if key not in expected],
        "misshapen": [
            f"{key}: found {found[key]}, expected {shape}"
            for key, shape in expected.items()
            if found.get(key, shape) != shape
        ],
    }
    if any(problems.values()):
        raise PatchDMError(
            "; ".join(_listing(kind, keys) for kind, keys in problems.items() if keys)
        )


def _listing(kind: str, keys: list[str], most: int = 8) -> str:
    more = f" and {len(keys) - most} more" if len(keys) > most else ""
    return f"{kind} {', '.join(keys[:most])}{more}"
