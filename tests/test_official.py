"""Checkpoints of the authors' code: any size is read, any wrong key is named, nothing runs."""

from __future__ import annotations

import argparse
import collections
import enum
import os
import pathlib
import pickle
import subprocess
import zipfile
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from patchdm.cli.app import main
from patchdm.diffusion.schedules import paper_scheduler
from patchdm.errors import PatchDMError
from patchdm.models import CodeTable, LatentMLP, PatchUNet, SemanticEncoder
from patchdm.official import OfficialModels, import_official, load_official
from patchdm.official.names import encoder_names, latent_names, unet_names
from patchdm.pipeline import PatchDMPipeline
from tests.authors import Sizes, shapes, state_dict
from tests.golden.official import golden_shapes

SMALL = Sizes(encoder=(8, 16, 16), encoder_attention=(1,), layers=3)
PATCH = 64


def as_official(models: OfficialModels) -> dict[str, Tensor]:
    """Return the weights under the authors' names."""
    pairs: list[tuple[Any, Any]] = [(models.unet, unet_names(models.unet))]
    if models.encoder:
        pairs.append((models.encoder, encoder_names(models.encoder)))
    if models.latent:
        pairs.append((models.latent, latent_names(models.latent)))
    state = {}
    for model, names in pairs:
        own = dict(model.named_parameters())
        for ours, theirs in names:
            for leaf in ("weight", "bias"):
                if f"{ours}.{leaf}" in own:
                    state[f"{theirs}.{leaf}"] = own.pop(f"{ours}.{leaf}").data
        assert not own  # every parameter has a name of theirs
    if models.code_table:
        state["encoder.semantic_enc.weight"] = models.code_table.codes.data
    return state


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
        assert torch.equal(models.unet.stem.weight, state["input_blocks.0.0.weight"])


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


class Mode(enum.Enum):
    """What a trainer leaves in its hyper-parameters."""

    DIFFUSION = "diffusion"


class Callback(dict):
    """What a trainer leaves among its callbacks."""

    def __setstate__(self, state: object) -> None:
        raise AssertionError("an object of the checkpoint came alive")


def lightning(state: dict[str, Tensor], **more: Any) -> dict[str, Any]:
    """Return a checkpoint such as Lightning writes, optimizer and oddities included."""
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    callback = Callback(best=torch.ones(2))
    callback.path = pathlib.Path("last.ckpt")
    return {
        "epoch": 3,
        "state_dict": collections.OrderedDict(state),
        "hyper_parameters": {"patch_size": 32, "train_mode": Mode.DIFFUSION},
        "optimizer_states": [optimizer.state_dict()],
        "callbacks": {Callback: callback},
        "args": argparse.Namespace(seed=0, stop=collections.defaultdict(list, a=[1])),
        "numbers": [np.float64(1.5), np.arange(3), {1, 2}, b"x", 2**40, torch.float16],
        "device": torch.device("cpu"),
        **more,
    }


def test_import_writes_a_diffusers_folder(tmp_path: pathlib.Path):
    state = state_dict(SMALL)
    half = {f"model.{key}": value.half() for key, value in state.items()}
    ema = {f"ema_model.{key}": torch.nn.Parameter(value) for key, value in state.items()}
    torch.save(lightning(half | ema), tmp_path / "last.ckpt")

    import_official(tmp_path / "last.ckpt", tmp_path / "out")

    unet = PatchUNet.from_pretrained(tmp_path / "out/unet")
    assert unet.config.patch_size == 32
    models = OfficialModels(
        unet=unet,
        encoder=SemanticEncoder.from_pretrained(tmp_path / "out/encoder"),
        code_table=None,
        latent=LatentMLP.from_pretrained(tmp_path / "out/latent"),
    )
    back = as_official(models)
    assert all(torch.equal(back[key], state[key].reshape(back[key].shape)) for key in back)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    parts = {"unet", "encoder", "latent", "latent_scheduler", "scheduler"}
    assert names == {"model_index.json", *parts}
    assert PatchDMPipeline.from_pretrained(tmp_path / "out").components.keys() == {
        *parts,
        "code_table",
    }
    assert not list((tmp_path / "out").rglob("*.bin"))


def test_the_command(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]):
    torch.save(lightning(state_dict(SMALL)), tmp_path / "last.ckpt")
    main(["import-official", str(tmp_path / "last.ckpt"), str(tmp_path / "out")])
    assert capsys.readouterr().out.endswith(
        "out: wrote encoder, latent, latent_scheduler, model_index.json, scheduler, unet\n"
    )
    scheduler = DDIMScheduler.from_pretrained(tmp_path / "out/scheduler")
    paper = paper_scheduler().config
    assert {key: scheduler.config[key] for key in paper if key[0] != "_"} == {
        key: paper[key] for key in paper if key[0] != "_"
    }
    with pytest.raises(SystemExit, match="error: .*out: exists"):
        main(["import-official", str(tmp_path / "last.ckpt"), str(tmp_path / "out")])


def test_import_of_a_bare_state_dict(tmp_path: pathlib.Path):
    state = state_dict(Sizes(images=3))
    shared = torch.arange(20.0)
    state["out.2.bias"] = shared[4:10:2]  # a view keeps its whole storage
    torch.save(state, tmp_path / "weights.pt")
    import_official(tmp_path / "weights.pt", tmp_path / "out")
    table = CodeTable.from_pretrained(tmp_path / "out/code_table")
    assert torch.equal(table.codes, state["encoder.semantic_enc.weight"])
    unet = PatchUNet.from_pretrained(tmp_path / "out/unet")
    assert unet.head[2].bias.tolist() == [4.0, 6.0, 8.0]


class Evil:
    """Runs a function when it is unpickled as usual."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.reduced = (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.reduced


def third_party(path: str) -> None:
    """Stand for a function of some installed package."""
    pathlib.Path(path).touch()


@pytest.mark.parametrize("where", ["state_dict", "callbacks", "hyper_parameters"])
@pytest.mark.parametrize(
    "evil",
    [
        Evil(os.system, "touch evil"),
        Evil(exec, "open('evil', 'w')"),
        Evil(eval, "open('evil', 'w')"),
        Evil(open, "evil", "w"),
        Evil(subprocess.Popen, ["touch", "evil"]),
        Evil(__import__, "evil"),
        Evil(third_party, "evil"),
        Evil(getattr, pathlib.Path, "touch"),
    ],
    ids=lambda evil: evil.reduced[0].__name__,
)
def test_code_is_refused(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, evil: Evil, where: str
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.py").write_text("open('evil', 'w')")
    state: Any = state_dict(SMALL)
    more = {} if where == "state_dict" else {where: {"x": evil}}
    torch.save(lightning(state | ({} if more else {"x": evil}), **more), "last.ckpt")
    assert not (tmp_path / "evil").exists()
    with pytest.raises(PatchDMError, match="last.ckpt: refused: its pickle calls"):
        import_official(pathlib.Path("last.ckpt"), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evil.py", "last.ckpt"]


def test_the_loader_itself_cannot_be_altered(tmp_path: pathlib.Path):
    """A state for a name, rather than for an object, would set attributes of what it names."""
    before = dict(vars(torch._utils._rebuild_tensor_v2))
    program = b"\x80\x02(dX\x01\x00\x00\x00ac%s\nN}X\x01\x00\x00\x00xK\x01s\x86bs."
    for name in (b"torch._utils\n_rebuild_tensor_v2", b"torch\nFloatStorage"):
        write_archive(tmp_path / "bad.ckpt", program.replace(b"%s", name))
        with pytest.raises(PatchDMError, match="no checkpoint"):
            import_official(tmp_path / "bad.ckpt", tmp_path / "out")
    write_archive(tmp_path / "bad.ckpt", program.replace(b"%s", b"patchdm.models\nPatchUNet"))
    with pytest.raises(PatchDMError, match="a: found _?.*, expected a tensor"):
        import_official(tmp_path / "bad.ckpt", tmp_path / "out")
    assert vars(torch._utils._rebuild_tensor_v2) == before
    assert not hasattr(PatchUNet, "x")


def write_archive(path: pathlib.Path, program: bytes, **storages: bytes) -> None:
    """Write a checkpoint by hand."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", program)
        for name, data in storages.items():
            archive.writestr(f"archive/data/{name}", data)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "not written by torch.save"),
        (b"\x80\x02}q\x00.", "not written by torch.save"),
    ],
)
def test_unreadable_files(tmp_path: pathlib.Path, content: bytes | None, message: str):
    path = tmp_path / "last.ckpt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PatchDMError, match=f"{path}: {message}"):
        import_official(path, tmp_path / "out")


@pytest.mark.parametrize("content", [[1, 2], {"state_dict": {"a": 1}}, {"state_dict": [1]}])
def test_checkpoints_of_something_else(tmp_path: pathlib.Path, content: Any):
    torch.save(content, tmp_path / "last.ckpt")
    with pytest.raises(PatchDMError, match="last.ckpt: "):
        import_official(tmp_path / "last.ckpt", tmp_path / "out")


def test_damaged_archives(tmp_path: pathlib.Path):
    path = tmp_path / "last.ckpt"
    torch.save(state_dict(SMALL), path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(PatchDMError, match="not written by torch.save"):
        import_official(path, tmp_path / "out")
    write_archive(path, pickle.dumps({"a": 1}, protocol=2)[:-3])
    with pytest.raises(PatchDMError, match="last.ckpt: "):
        import_official(path, tmp_path / "out")


def test_a_tensor_cannot_reach_beyond_its_storage(tmp_path: pathlib.Path):
    program = pickle.dumps("@", protocol=2).replace(b"X\x01\x00\x00\x00@q\x00", b"%s")
    tensor = (
        b"}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n"
        b"((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000"
        b"X\x03\x00\x00\x00cpuK\x02tQK\x01K\x02\x85K\x01\x85\x89NtRs"
    )  # {"a": two numbers from the second on}
    write_archive(tmp_path / "last.ckpt", program.replace(b"%s", tensor), **{"0": bytes(8)})
    with pytest.raises(PatchDMError, match="out of bounds"):
        import_official(tmp_path / "last.ckpt", tmp_path / "out")


def test_a_tensor_cannot_be_larger_than_its_storage(tmp_path: pathlib.Path):
    torch.save({"out.2.bias": torch.ones(1).expand(10**12)}, tmp_path / "last.ckpt")
    with pytest.raises(PatchDMError, match="storage 0 holds 1 numbers"):
        import_official(tmp_path / "last.ckpt", tmp_path / "out")


def test_an_existing_folder_is_kept(tmp_path: pathlib.Path):
    torch.save(state_dict(SMALL), tmp_path / "last.ckpt")
    with pytest.raises(PatchDMError, match="exists, expected a new folder"):
        import_official(tmp_path / "last.ckpt", tmp_path)
