"""PatchDMPipeline is a diffusers pipeline: what diffusers tests of every pipeline of its own."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from torch.testing import assert_close

from patchdm.diffusion.schedules import image_scheduler, latent_scheduler
from patchdm.errors import PatchDMError
from patchdm.formats.shards import read_image
from patchdm.models import CodeTable, LatentMLP, PatchUNet
from patchdm.models.build import build_latent, build_unet
from patchdm.pipeline import PatchDMPipeline
from stages._common import LATENT, PATCHDM, SAMPLES
from stages.sample import sample
from tests.small_pipeline import CLOSE, CODE, P, images, parts, pipeline
from tests.stages.tiny import tiny_params


@pytest.fixture
def pipe() -> PatchDMPipeline:
    return pipeline()


# Saving, loading, moving, casting


def test_saving_and_loading(pipe, tmp_path: Path):
    pipe.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["unet"] == ["patchdm.models.unet", "PatchUNet"]
    assert {path.name for path in tmp_path.iterdir()} == {"model_index.json", *parts()}
    assert {path.suffix for path in tmp_path.rglob("*.*")} == {".json", ".safetensors"}
    again = PatchDMPipeline.from_pretrained(tmp_path)
    assert torch.equal(images(again), images(pipe))
    other = PatchDMPipeline.from_pretrained(tmp_path, latent=None, scheduler=pipe.latent_scheduler)
    assert other.latent is None
    assert other.scheduler is pipe.latent_scheduler


def test_saving_and_loading_without_optional_parts(tmp_path: Path):
    pipe = pipeline()
    for name in pipe._optional_components:
        setattr(pipe, name, None)
    pipe.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"model_index.json", "scheduler", "unet"}
    again = PatchDMPipeline.from_pretrained(tmp_path)
    assert [name for name, part in again.components.items() if part is None] == [
        "latent",
        "latent_scheduler",
        "encoder",
        "code_table",
    ]
    assert torch.equal(images(again), images(pipe))


def test_saving_and_loading_with_variant(pipe, tmp_path: Path):
    pipe.save_pretrained(tmp_path, variant="ema")
    assert torch.equal(
        images(PatchDMPipeline.from_pretrained(tmp_path, variant="ema")), images(pipe)
    )
    with pytest.raises(ValueError, match="variant=fp16"):
        PatchDMPipeline.from_pretrained(tmp_path, variant="fp16")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision(pipe, dtype: torch.dtype, tmp_path: Path):
    """Cast or loaded in half, images are those of float32, nearly, and float32 themselves."""
    exact = images(pipe)
    pipe.save_pretrained(tmp_path)
    loaded = PatchDMPipeline.from_pretrained(tmp_path, torch_dtype=dtype)
    pipe.to("cpu", dtype)
    for name, part in loaded.components.items():
        if isinstance(part, torch.nn.Module):
            assert part.dtype == pipe.components[name].dtype == dtype
    half = images(loaded)
    assert half.dtype == torch.float32
    assert torch.equal(half, images(pipe))
    assert (half - exact).abs().mean() < 0.02
    by_part = PatchDMPipeline.from_pretrained(tmp_path, torch_dtype={"unet": dtype})
    assert (by_part.unet.dtype, by_part.latent.dtype) == (dtype, torch.float32)
    assert images(by_part).isfinite().all()


def test_components_and_a_pipeline_of_them(pipe):
    assert pipe.components.keys() == parts().keys()
    assert torch.equal(images(PatchDMPipeline(**pipe.components)), images(pipe))
    assert torch.equal(images(PatchDMPipeline.from_pipe(pipe)), images(pipe))


def test_moving(pipe):
    expected = images(pipe)
    assert pipe.to("meta").device.type == "meta"
    assert {part.device.type for part in pipe.components.values() if hasattr(part, "device")} == {
        "meta"
    }
    assert torch.equal(images(pipeline().to("cpu")), expected)


def test_offloading_between_models(pipe):
    """On the CPU nothing moves, but the hooks are there, and set afresh after a call."""
    expected = images(pipe)
    pipe.enable_model_cpu_offload(device="cpu")
    hooks = pipe._all_hooks
    assert len(hooks) == 4
    assert torch.equal(images(pipe), expected)
    assert pipe._all_hooks is not hooks
    assert pipe.model_cpu_offload_seq.split("->") == ["latent", "unet"]


# Calling


def test_the_signature_of_diffusers_pipelines():
    arguments = inspect.signature(PatchDMPipeline.__call__).parameters
    optional = {"batch_size", "num_inference_steps", "generator", "latents", "output_type"}
    optional |= {"height", "width", "guidance_scale", "return_dict"}
    optional |= {"callback_on_step_end", "callback_on_step_end_tensor_inputs"}
    assert {name for name in optional if arguments[name].default is not inspect._empty} == optional


def test_an_image_depends_on_its_generator_alone(pipe):
    together = images(pipe, (3, 5, 3))
    assert together.shape == (3, 3, P, 2 * P)
    assert_close(together[:1], images(pipe, (3,)), **CLOSE)
    assert_close(together[1:2], images(pipe, (5,)), **CLOSE)
    assert_close(together[2:], together[:1], **CLOSE)
    assert (together[1] - together[0]).abs().mean() > 0.1


def test_noise_of_the_solver_is_the_generators_too(pipe):
    pipe.scheduler = diffusers.DDPMScheduler.from_config(pipe.scheduler.config)
    together = images(pipe, (3, 5))
    assert_close(together[1:], images(pipe, (5,)), **CLOSE)


def test_one_generator_for_all_images(pipe):
    first, again = (
        images(pipe, (0, 0), generator=torch.Generator().manual_seed(7)) for _ in range(2)
    )
    assert torch.equal(first, again)
    assert (first[0] - first[1]).abs().mean() > 0.1
    torch.manual_seed(0)
    without = images(pipe, generator=None)
    torch.manual_seed(0)
    assert torch.equal(without, images(pipe, generator=None))


def test_noise_first_then_code(pipe):
    generator = torch.Generator().manual_seed(3)
    latents = torch.randn(1, 3, P, 2 * P, generator=generator)
    expected = images(pipe)
    sizes = {"height": None, "width": None}  # those of the noise
    assert torch.equal(images(pipe, latents=latents, generator=generator, **sizes), expected)
    assert not torch.equal(images(pipe, cond=torch.ones(1, CODE)), expected)
    pipe.latent = None
    zeros = images(pipe, cond=torch.zeros(1, CODE))
    assert_close(images(pipe), zeros, **CLOSE)


def test_codes_of_training_images(pipe):
    """Each is one of the table's, and follows from the image's own generator."""
    torch.nn.init.normal_(pipe.code_table.codes)
    expected = images(pipe, (3, 5, 9), code="training")
    found = [
        [
            torch.allclose(image, images(pipe, (seed,), cond=code[None])[0], **CLOSE)
            for code in pipe.code_table.codes.detach()
        ]
        for seed, image in zip((3, 5, 9), expected, strict=True)
    ]
    assert [sum(row) for row in found] == [1, 1, 1]
    assert_close(images(pipe, (5,), code="training"), expected[1:2], **CLOSE)
    generator = torch.Generator().manual_seed(0)
    drawn = pipe.training_codes(5000, generator)
    counts = (drawn[:, None] == pipe.code_table.codes).all(dim=2).sum(dim=0)
    assert_close(counts / 5000, torch.full((5,), 0.2), atol=0.03, rtol=0)
    for table in (None, CodeTable(0, CODE)):
        pipe.code_table = table
        with pytest.raises(ValueError, match="is 'training', expected 'latent': there is no table"):
            images(pipe, code="training")


def test_a_stage_gives_the_same_images(tmp_dir: Path):
    params = tiny_params(
        sample={"first_seed": 7, "num_images": 3, "batch_size": 2},
        evaluate={"kid_subset_size": 2, "nearest_k": 1},
    )
    torch.manual_seed(0)
    image_scheduler(params.diffusion).save_pretrained(PATCHDM / "scheduler")
    build_unet(params.model).save_pretrained(PATCHDM / "unet")
    CodeTable(3, params.model.code_dim).save_pretrained(PATCHDM / "code_table")
    latent_scheduler(params.latent.beta).save_pretrained(LATENT / "scheduler")
    build_latent(params.latent, params.model.code_dim).save_pretrained(LATENT / "latent")
    sample(params)
    pipe = PatchDMPipeline.from_stages(PATCHDM, LATENT)
    assert isinstance(pipe.code_table, CodeTable)
    pipe.set_progress_bar_config(disable=True)
    (image,) = pipe(
        height=params.data.height,
        width=params.data.width,
        num_inference_steps=params.sample.num_steps,
        guidance_scale=params.sample.guidance_scale,
        tiling=params.sample.tiling,
        latent_num_inference_steps=params.latent.num_steps,
        generator=[torch.Generator().manual_seed(8)],
    ).images
    stored = read_image(SAMPLES, 8).astype(int)
    assert np.abs(np.asarray(image, dtype=int) - stored).max() <= 1  # of a batch of two
    with pytest.raises(PatchDMError, match="no readable model: .*nowhere"):
        PatchDMPipeline.from_stages(tmp_dir / "nowhere", None)


def test_output_types(pipe):
    solved, tensor, array, (image,) = (
        images(pipe, output_type=kind) for kind in ("latent", "pt", "np", "pil")
    )
    assert_close(tensor, (solved / 2 + 0.5).clamp(0, 1))
    assert array.shape == (1, P, 2 * P, 3)
    assert np.array_equal(array, tensor.permute(0, 2, 3, 1).numpy())
    assert (image.mode, image.size) == ("RGB", (2 * P, P))
    assert np.array_equal(np.asarray(image), (array[0] * 255).round())


def test_a_tuple_is_the_same(pipe):
    def call(**changes: Any) -> Any:
        generator = torch.Generator().manual_seed(0)
        return pipe(num_inference_steps=2, generator=generator, output_type="np", **changes)

    (plain,) = call(return_dict=False)
    assert plain.shape == (1, P, P, 3), "the default size is one patch"
    assert np.array_equal(plain, call().images)


def test_guidance_tiling_and_streaming(pipe):
    expected = images(pipe, height=3 * P)
    assert_close(images(pipe, height=3 * P, rows_per_chunk=1), expected, **CLOSE)
    for changes in ({"guidance_scale": 0.5}, {"tiling": "blend"}):
        assert (images(pipe, height=3 * P, **changes) - expected).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"height": 20}, "height is 20, expected multiples of the patch size 16"),
        ({"height": 0}, "height is 0, expected multiples of the patch size 16"),
        ({"width": 40}, "width is 40, expected multiples of the patch size 16"),
        ({"batch_size": 2}, "`generator` is a list of 1, expected one per image: 2"),
        ({"cond": torch.zeros(1, 12)}, r"`cond` has shape \(1, 12\), expected \(1, 16\)"),
        ({"cond": torch.zeros(2, CODE)}, r"`cond` has shape \(2, 16\), expected \(1, 16\)"),
        ({"latents": torch.zeros(1, 3, P, P)}, r"`latents` has .* expected \(1, 3, 16, 32\)"),
        ({"output_type": "jpg"}, "`output_type` is 'jpg', expected pil, np, pt, latent"),
        ({"code": "image"}, "`code` is 'image', expected latent, training"),
        ({"tiling": "woven"}, "`tiling` is 'woven', expected shifted, blend"),
        ({"rows_per_chunk": 0}, "rows_per_chunk is 0, expected at least 1"),
        (
            {"callback_on_step_end_tensor_inputs": ["eps"]},
            r"has \['eps'\], expected \['latents', 'cond'\]",
        ),
    ],
)
def test_arguments_that_do_not_fit(pipe, changes: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message) as error:
        images(pipe, **changes)
    assert "\n" not in str(error.value)


def test_parts_that_do_not_fit():
    with pytest.raises(ValueError, match="`latent` has codes of width 8, `unet` takes 16"):
        pipeline(latent=LatentMLP(8, 2, 8))
    with pytest.raises(ValueError, match="`latent` is given without `latent_scheduler`"):
        pipeline(latent_scheduler=None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "`batch_size` is 0, expected a whole number of 1 or more"),
        ({"batch_size": 1.0}, "`batch_size` is 1.0, expected a whole number"),
        ({"num_inference_steps": 0}, "`num_inference_steps` is 0, expected a whole number"),
        ({"num_inference_steps": True}, "`num_inference_steps` is True, expected a whole number"),
        ({"num_inference_steps": 1001}, "`num_inference_steps` is 1001, expected at most 1000"),
        ({"latent_num_inference_steps": 0}, "`latent_num_inference_steps` is 0, expected"),
        ({"guidance_scale": -0.5}, "`guidance_scale` is -0.5, expected 0 or more"),
        ({"guidance_scale": float("nan")}, "`guidance_scale` is nan, expected 0 or more"),
    ],
    ids=str,
)
def test_numbers_that_do_not_fit_are_named(pipe, changes: dict[str, Any], message: str):
    generator = torch.Generator().manual_seed(3)
    with pytest.raises(ValueError, match=message):
        images(pipe, generator=generator, **changes)


def test_guidance_needs_a_network_trained_for_it(tmp_path: Path):
    """The network says so itself, wherever it is copied to."""
    train = tiny_params().train
    assert not train.unconditional
    unet = build_unet(tiny_params().model, None, train)
    unet.save_pretrained(tmp_path)
    pipe = pipeline(unet=PatchUNet.from_pretrained(tmp_path), latent=None)
    with pytest.raises(ValueError, match="`guidance_scale` is 0.5, expected 0: the network was"):
        images(pipe, guidance_scale=0.5, generator=torch.Generator())
    dropping = tiny_params(train={"code_dropout": 0.1, "position_dropout": 0.5}).train
    assert build_unet(tiny_params().model, None, dropping).config.unconditional
