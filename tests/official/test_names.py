"""Checkpoints of the authors' code: any size is read, any wrong key is named, nothing runs."""

from __future__ import annotations

import pytest
import torch

from patchdm.errors import PatchDMError
from patchdm.official import load_official
from tests.authors import Sizes, as_official, shapes, state_dict
from tests.golden.official import golden_shapes

SMALL = Sizes(encoder=(8, 16, 16), encoder_attention=(1,), layers=3)
PATCH = 64


def test_the_names_are_the_authors():
    sizes = Sizes(
        channels=(32, 64), res_blocks=2, embed=64, time=32, code=64,
        encoder=(32, 64, 64), encoder_res_blocks=2, encoder_attention=(1,), layers=4, hidden=96,
    )  # fmt: skip
    assert shapes(sizes) == golden_shapes()


@pytest.mark.parametrize(
    "sizes",
    [
        SMALL,
        Sizes(channels=(8,), attention=(), images=5),
        Sizes(channels=(8,), attention=(0,), res_blocks=3),
        Sizes(channels=(8, 16, 16), attention=(), embed=24, code=20, images=3, layers=2, hidden=7),
        Sizes(channels=(32, 32, 64, 96, 128), res_blocks=2, attention=(1, 3), time=12, images=4),
        Sizes(channels=(8, 8, 8), res_blocks=3, attention=(0, 1, 2), layers=6, hidden=40),
        Sizes(channels=(16, 8, 8), res_blocks=1, attention=(0, 2)),
        Sizes(res_blocks=2, encoder=(8, 16, 24, 24), encoder_attention=(0, 3)),
        Sizes(res_blocks=2, encoder=(8, 8), encoder_res_blocks=3, encoder_attention=(1,)),
        Sizes(res_blocks=3, encoder=(16,), encoder_res_blocks=1),
        Sizes(res_blocks=1, encoder=(8, 8, 8, 8), encoder_res_blocks=1, code=48),
    ],
    ids=str,
)
def test_any_size_is_read_from_the_shapes(sizes: Sizes):
    state = state_dict(sizes)
    models = load_official(state, patch_size=PATCH)

    unet = models.unet.config
    assert (unet.channels, unet.res_blocks) == (sizes.channels, sizes.res_blocks)
    assert unet.attention_levels == sizes.attention
    assert (unet.embed_dim, unet.cond_dim) == (sizes.embed, sizes.code)
    assert (unet.time_channels, unet.position_channels) == (sizes.time, 64)
    assert (unet.patch_size, unet.norm_groups) == (PATCH, 32)
    assert (models.encoder is not None) == bool(sizes.encoder)
    if models.encoder:
        encoder = models.encoder.config
        assert (encoder.channels, encoder.code_dim) == (sizes.encoder, sizes.code)
        assert encoder.res_blocks == sizes.encoder_res_blocks
        assert encoder.attention_levels == sizes.encoder_attention
    assert (models.code_table is not None) == bool(sizes.images)
    assert (models.latent is not None) == bool(sizes.layers)
    if models.latent:
        latent = models.latent.config
        assert (latent.layers, latent.hidden) == (sizes.layers, sizes.hidden)

    back = as_official(models)
    twice = {key for key in state if "linear_emb" in key}
    assert back.keys() == state.keys() - twice
    assert all(torch.equal(back[key], state[key].reshape(back[key].shape)) for key in back)
    assert not any(model.training for model in vars(models).values() if model is not None)


def test_ema_is_preferred():
    state = state_dict(SMALL)
    both = {f"model.{key}": torch.zeros_like(value) for key, value in state.items()}
    both |= {f"ema_model.{key}": value for key, value in state.items()}
    both["x_T"] = torch.zeros(2, 3, 8, 8)
    raw = {f"model.{key}": value for key, value in state.items()}
    for prefixed in (both, raw):
        models = load_official(prefixed, patch_size=PATCH)
        assert torch.equal(models.unet.encoder.stem.weight, state["input_blocks.0.0.weight"])


def test_statistics_become_the_latent_models():
    state = state_dict(SMALL)
    mean, std = torch.randn(1, SMALL.code), torch.rand(1, SMALL.code)
    state = {f"model.{key}": value for key, value in state.items()}
    latent = load_official(state | {"conds_mean": mean, "conds_std": std}, patch_size=PATCH).latent
    assert latent is not None
    assert torch.equal(latent.denormalize(torch.ones(1, SMALL.code)), std + mean)


def test_old_name_of_the_code_table():
    state = state_dict(Sizes(images=3))
    codes = state.pop("encoder.semantic_enc.weight")
    state["semantic_enc.semantic_enc.weight"] = codes
    table = load_official(state, patch_size=PATCH).code_table
    assert table is not None
    assert torch.equal(table.codes, codes)


@pytest.mark.parametrize("key", sorted(shapes(SMALL))[::3])
def test_each_missing_key_is_named(key: str):
    state = state_dict(SMALL)
    del state[key]
    with pytest.raises(PatchDMError, match=f"missing .*{key}"):
        load_official(state, patch_size=PATCH)


@pytest.mark.parametrize(
    "key",
    [
        "bogus.weight",
        "out.2.scale",
        "input_blocks.9.0.in_layers.0.weight",
        "output_blocks.9.1.in_layers.0.weight",
        "output_blocks.0.1.qkv.scale",
        "middle_block.3.norm.weight",
        "encoder.input_blocks.9.0.in_layers.0.weight",
        "latent_net.layers.7.linear.weight",
    ],
)
def test_each_surplus_key_is_named(key: str):
    state = state_dict(SMALL) | {key: torch.zeros(3)}
    with pytest.raises(PatchDMError, match=f"surplus {key}"):
        load_official(state, patch_size=PATCH)
    prefixed = {f"ema_model.{name}": value for name, value in state.items() if name != key}
    for stray in (f"model.{key}", key):
        with pytest.raises(PatchDMError, match=f"surplus {stray}"):
            load_official(prefixed | {stray: torch.zeros(3)}, patch_size=PATCH)


@pytest.mark.parametrize(
    ("key", "shape", "message"),
    [
        ("out.2.bias", (4,), "misshapen out.2.bias: found (4,), expected (3,)"),
        ("out.2.bias", (), "misshapen out.2.bias: found (), expected (3,)"),
        (
            "middle_block.1.qkv.weight",
            (48, 16),
            "misshapen middle_block.1.qkv.weight: found (48, 16), expected (48, 16, 1)",
        ),
        (
            "encoder.out.3.weight",
            (20, 16, 1, 1),
            "misshapen encoder.out.3.weight: found (20, 16, 1, 1), expected (16, 16, 1, 1)",
        ),
        (
            "input_blocks.0.0.weight",
            (8, 3),
            "misshapen input_blocks.0.0.weight: found (8, 3), expected 4 dimensions",
        ),
    ],
)
def test_misshapen_keys_are_named(key: str, shape: tuple[int, ...], message: str):
    with pytest.raises(PatchDMError) as caught:
        load_official(state_dict(SMALL) | {key: torch.zeros(shape)}, patch_size=PATCH)
    assert str(caught.value) == message


def test_attention_must_be_uniform_in_a_level():
    state = state_dict(Sizes(res_blocks=2, attention=(0,)))
    for key in [key for key in state if key.startswith("input_blocks.2.1.")]:
        del state[key]
    with pytest.raises(PatchDMError, match="missing input_blocks.2.1.norm.weight"):
        load_official(state, patch_size=PATCH)


def test_sizes_that_do_not_fit():
    with pytest.raises(PatchDMError, match="patch_size is 66, expected multiples of 4"):
        load_official(state_dict(SMALL), patch_size=66)
    mixed = state_dict(SMALL) | {"encoder.semantic_enc.weight": torch.zeros(5, 20)}
    with pytest.raises(PatchDMError, match=r"found \(5, 20\), expected \(5, 16\)"):
        load_official(mixed, patch_size=PATCH)
    with pytest.raises(PatchDMError, match="no checkpoint of Patch-DM"):
        load_official({}, patch_size=PATCH)
    with pytest.raises(PatchDMError, match="out.2.bias: found str, expected a tensor"):
        load_official({"out.2.bias": "x"}, patch_size=PATCH)  # type: ignore[dict-item]
