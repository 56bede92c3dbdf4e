from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch_fidelity import feature_extractor_clip, feature_extractor_inceptionv3
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from patchdm.backbones.frozen import state_hash
from patchdm.errors import PatchDMError
from patchdm.metrics.extractors import Extractor, load_extractor


@pytest.fixture(scope="module")
def inception(tmp_path_factory: pytest.TempPathFactory) -> tuple[FeatureExtractorInceptionV3, Path]:
    """torch-fidelity's network and its weights file: random, the real ones are not offline."""
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        nothing = {"name": "load_state_dict_from_url", "value": lambda *_, **__: {}}
        patch.setattr(feature_extractor_inceptionv3, **nothing)
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # none of them may pass for another or for none
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.3)
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 1.5)
    path = tmp_path_factory.mktemp("inception") / "inception.pth"
    torch.save(network.state_dict(), path)
    return network, path


def test_inception_takes_a_local_weights_file(
    inception: tuple[FeatureExtractorInceptionV3, Path], images: np.ndarray
) -> None:
    network, path = inception
    ours = load_extractor("inception-adm", path, "cpu")
    assert ours.label == "Inception"
    assert ours.resizer == "bilinear 299x299 of TensorFlow 1"
    assert ours.weights_hash == state_hash(network.state_dict())
    expected = network(torch.from_numpy(images[:2]).permute(0, 3, 1, 2))[0]
    torch.testing.assert_close(torch.from_numpy(ours.features(images[:2]).pooled), expected)


def test_the_spatial_features_are_the_first_maps_of_mixed_6d_computed_by_hand(
    inception: tuple[FeatureExtractorInceptionV3, Path], images: np.ndarray
) -> None:
    """PAPER section 4: mixed_6/conv[..., :7], after batch norm and ReLU, channels last."""
    network, path = inception
    inputs: list[Tensor] = []
    hook = network.Mixed_6d.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    network(torch.from_numpy(images[:2]).permute(0, 3, 1, 2))
    hook.remove()
    unit = network.Mixed_6d.branch1x1
    kernel = unit.conv.weight[:7, :, 0, 0].double()  # (7, 768)
    maps = torch.einsum("bchw,oc->bhwo", inputs[0].double(), kernel)
    scale = unit.bn.weight[:7].double() / (unit.bn.running_var[:7].double() + unit.bn.eps).sqrt()
    normed = (maps - unit.bn.running_mean[:7].double()) * scale + unit.bn.bias[:7].double()
    expected = normed.clamp(min=0).reshape(2, -1)

    spatial = load_extractor("inception-adm", path, "cpu").features(images[:2]).spatial

    assert spatial is not None
    assert spatial.shape == (2, 17 * 17 * 7)
    assert (expected > 0).double().mean() > 0.1
    np.testing.assert_allclose(spatial, expected, rtol=1e-3, atol=1e-4)


def test_efficientnet_has_no_spatial_features(extractor: Extractor, images: np.ndarray) -> None:
    features = extractor.features(images[:2])
    assert features.pooled.shape == (2, 1280)
    assert features.spatial is None


class _Flat(nn.Module):
    """Stands for a network that torch-fidelity would download."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.mean(dim=(2, 3)))


def test_dinov2_comes_from_torch_fidelity(
    monkeypatch: pytest.MonkeyPatch, images: np.ndarray
) -> None:
    asked: list[tuple[str, str]] = []

    def load(*names: str) -> nn.Module:
        asked.append(names)
        return _Flat()

    monkeypatch.setattr(torch.hub, "load", load)
    dino = load_extractor("dinov2-vit-b-14", None, "cpu")
    assert asked == [("facebookresearch/dinov2", "dinov2_vitb14")]
    assert (dino.label, dino.resizer) == ("DINOv2-vit-b-14", "bilinear 224x224 of TensorFlow 1")
    assert dino.features(images[:3]).pooled.shape == (3, 5)


def test_clip_comes_from_torch_fidelity(
    monkeypatch: pytest.MonkeyPatch, images: np.ndarray
) -> None:
    class Visual(_Flat):
        input_resolution = 64

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.visual = Visual()

    monkeypatch.setattr(
        feature_extractor_clip, "load_state_dict_from_url", lambda *_, **__: nn.Identity()
    )
    monkeypatch.setattr(feature_extractor_clip, "build_model", lambda *_: Model())
    clip = load_extractor("clip-vit-b-32", None, "cpu")
    assert (clip.label, clip.resizer) == ("CLIP-vit-b-32", "bilinear 64x64 of TensorFlow 1")
    assert clip.features(images[:3]).pooled.shape == (3, 5)


def test_unknown_extractors_are_named() -> None:
    with pytest.raises(PatchDMError, match="'vgg': unknown, expected efficientnet-lite0, inc"):
        load_extractor("vgg", None, "cpu")


def test_missing_or_wrong_weights_are_named(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    with pytest.raises(PatchDMError, match=r"weights\.pth: weights file not found"):
        load_extractor("inception-adm", path, "cpu")
    torch.save({"fc.weight": torch.zeros(2, 2)}, path)
    for name in ("inception-adm", "efficientnet-lite0"):
        with pytest.raises(PatchDMError, match=r"weights\.pth: weights do not fit"):
            load_extractor(name, path, "cpu")
    for name in ("clip-vit-b-32", "dinov2-vit-b-14"):
        with pytest.raises(PatchDMError, match=rf"'{name}': found weights .*pth, expected null"):
            load_extractor(name, path, "cpu")


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("inception-adm", URLError("no network")),
        ("dinov2-vit-b-14", RuntimeError("no internet connection\nand no cache")),
    ],
)
def test_weights_that_cannot_be_downloaded_are_named(
    monkeypatch: pytest.MonkeyPatch, name: str, error: Exception
) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(feature_extractor_inceptionv3, "load_state_dict_from_url", no_network)
    monkeypatch.setattr(torch.hub, "load", no_network)
    with pytest.raises(PatchDMError, match=f"'{name}': weights cannot be downloaded") as raised:
        load_extractor(name, None, "cpu")
    assert "\n" not in str(raised.value)
