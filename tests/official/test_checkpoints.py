"""Checkpoints as trainers write them: imported whole, and nothing in them runs."""

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
from patchdm.official import OfficialModels, import_official
from patchdm.pipeline import PatchDMPipeline
from tests.authors import Sizes, as_official, state_dict

SMALL = Sizes(encoder=(8, 16, 16), encoder_attention=(1,), layers=3)
PATCH = 64


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
    assert unet.decoder.head[2].bias.tolist() == [4.0, 6.0, 8.0]


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
