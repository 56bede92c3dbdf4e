"""In- and outpainting by the pipeline: given pixels to the bit, and each image from its seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)
from PIL import Image
from torch import Tensor
from torch.testing import assert_close

from patchdm.diffusion.schedules import latent_scheduler, paper_scheduler
from patchdm.formats.tensors import to_tensor
from patchdm.models import CodeTable, LatentMLP, SemanticEncoder
from patchdm.pipeline import PatchDMPipeline
from patchdm.sampling.encode import CodeFit
from patchdm.sampling.solve import generators
from tests.formats.profiles import PROFILES, seen
from tests.networks import awake, small_unet

P, HEIGHT, WIDTH, CODE = 8, 16, 24, 6
FEATURES = 10
QUICK = {"num_inference_steps": 3, "latent_num_inference_steps": 2, "resamplings": 2}


def features_of(images: np.ndarray) -> np.ndarray:
    """Stand in for a backbone: ten quantiles."""
    return np.quantile(images, np.linspace(0, 1, FEATURES), axis=(1, 2, 3)).T.astype(np.float32)


def pipeline(*parts: str) -> PatchDMPipeline:
    """Return a small pipeline with some of its optional parts."""
    torch.manual_seed(3)
    features = np.random.default_rng(0).normal(100, 50, (8, FEATURES)).astype(np.float32)
    models: dict[str, Any] = {
        "latent": awake(LatentMLP(CODE, 2, 8, time_channels=8)),
        "encoder": awake(SemanticEncoder(3, (8, 8), 1, (), 4, CODE)).eval(),
        "code_table": CodeTable.from_features(features, CODE, "quantiles"),
    }
    given = {name: models[name] for name in parts}
    unet = small_unet(cond_dim=CODE, sample_size=(HEIGHT, WIDTH))
    pipe = PatchDMPipeline(unet, paper_scheduler(), latent_scheduler=latent_scheduler(), **given)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def pipe() -> PatchDMPipeline:
    return pipeline("latent", "code_table")


@pytest.fixture
def fit() -> CodeFit:
    return CodeFit(features_of, num_steps=2, windows=2, learning_rate=0.1)


@pytest.fixture
def photographs() -> np.ndarray:
    """Every level of uint8 is among the pixels."""
    return np.random.default_rng(1).integers(0, 256, (3, HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.fixture
def mask() -> Tensor:
    mask = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    mask[3:9, 5:14] = True
    return mask


def inpaint(pipe: PatchDMPipeline, image: Any, mask: Tensor, **options: Any) -> Any:
    count = len(image) if isinstance(image, Tensor | list) else 1
    options = QUICK | {"generator": generators(range(count)), "output_type": "latent"} | options
    return pipe.inpaint(image, mask, **options).images


# Inpainting


def test_known_pixels_come_back_to_the_bit(pipe, fit, photographs, mask):
    pictures = [Image.fromarray(photograph) for photograph in photographs]
    found = inpaint(pipe, pictures, mask, fit=fit, output_type="pil")
    known = ~mask.numpy()
    for picture, photograph in zip(found, photographs, strict=True):
        assert np.array_equal(np.asarray(picture)[known], photograph[known])
        assert not np.array_equal(np.asarray(picture)[~known], photograph[~known])


def test_pil_images_are_taken_as_seen(pipe, fit, photographs, mask):
    stored = Image.fromarray(photographs[0])
    stored.info["icc_profile"] = PROFILES["Display P3"]
    made = pipe.inpaint(stored, mask, generator=generators([0]), fit=fit, **QUICK).images[0]
    expected = seen(stored, PROFILES["Display P3"])[~mask.numpy()]
    np.testing.assert_array_equal(np.asarray(made)[~mask.numpy()], expected)


def test_known_floats_come_back_exactly(pipe, fit, mask):
    x0 = torch.randn(2, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    found = inpaint(pipe, x0, mask, fit=fit)
    assert torch.equal(found[..., ~mask], x0[..., ~mask])


def test_everything_masked_is_plain_sampling(pipe):
    everything = torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
    options = {"code": "latent", "resamplings": 1, "tiling": "blend"}
    found = inpaint(pipe, torch.zeros(2, 3, HEIGHT, WIDTH), everything, **options)
    plain = pipe(
        2,
        HEIGHT,
        WIDTH,
        num_inference_steps=3,
        latent_num_inference_steps=2,
        generator=generators(range(2)),
        output_type="latent",
        tiling="blend",
    ).images
    assert torch.equal(found, plain)


@pytest.mark.parametrize("code", ["image", "latent", "field"])
def test_an_image_depends_on_its_seed_alone(pipe, fit, photographs, mask, code: str):
    x0 = to_tensor(photographs)
    masks = torch.stack([mask, mask.roll(3, dims=0), mask.roll(4, dims=1)])[:, None]
    together = inpaint(pipe, x0, masks, code=code, fit=fit)
    for number in range(3):
        one = slice(number, number + 1)
        options = {"code": code, "fit": fit, "generator": generators([number])}
        alone = inpaint(pipe, x0[one], masks[one], **options)
        assert_close(alone, together[one], atol=1e-3, rtol=0.0)
    other = inpaint(pipe, x0, masks, code=code, fit=fit, generator=generators([7, 8, 9]))
    assert (other - together)[masks.expand_as(other)].abs().mean() > 0.05


def test_masked_pixels_are_not_looked_at(pipe, fit, photographs, mask):
    x0 = to_tensor(photographs)
    other = x0.masked_fill(mask, -0.5)
    assert torch.equal(inpaint(pipe, x0, mask, fit=fit), inpaint(pipe, other, mask, fit=fit))


def test_the_scheduler_of_the_pipeline_stays_and_ddim_solves(pipe, fit, photographs, mask):
    x0 = to_tensor(photographs)
    by_ddim = inpaint(pipe, x0, mask, fit=fit)
    pipe.scheduler = UniPCMultistepScheduler.from_config(pipe.scheduler.config)
    unipc = pipe.scheduler
    assert torch.equal(inpaint(pipe, x0, mask, fit=fit), by_ddim)
    assert pipe.scheduler is unipc


def test_codes_come_from_encoder_table_latent_model_or_the_caller(fit, photographs, mask):
    x0 = to_tensor(photographs)
    cond = torch.zeros(3, CODE)
    found = [
        inpaint(pipeline("encoder", "latent"), x0, mask),
        inpaint(pipeline("code_table", "latent"), x0, mask, fit=fit),
        inpaint(pipeline("code_table", "latent"), x0, mask, code="latent"),
        inpaint(pipeline("code_table", "latent"), x0, mask, code="field", fit=fit),
        inpaint(pipeline("code_table", "latent"), x0, mask, cond=cond),
        inpaint(pipeline(), x0, mask),  # a model without global code
    ]
    for number, images in enumerate(found):
        for other in found[:number]:
            assert not torch.equal(images, other)


def test_a_field_needs_a_latent_model_and_a_training_size(pipe, fit, photographs, mask):
    x0 = to_tensor(photographs)
    with pytest.raises(ValueError, match="`code` is 'field', but there is no latent model"):
        inpaint(pipeline("code_table"), x0, mask, code="field", fit=fit)
    pipe.unet.register_to_config(sample_size=None)
    with pytest.raises(ValueError, match="`code` is 'field', but `unet` has no sample_size"):
        inpaint(pipe, x0, mask, code="field", fit=fit)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision(pipe, fit, photographs, mask, dtype: torch.dtype):
    x0 = to_tensor(photographs)
    exact = inpaint(pipe, x0, mask, fit=fit)
    found = inpaint(pipe.to(dtype), x0, mask, fit=fit)
    assert found.dtype == torch.float32
    assert torch.equal(found[..., ~mask], x0[..., ~mask])
    assert (found - exact).abs().mean() < 0.05


def test_chunks_change_nothing(pipe, fit, photographs, mask):
    x0 = to_tensor(photographs)
    whole = inpaint(pipe, x0, mask, fit=fit)
    chunked = inpaint(pipe, x0, mask, fit=fit, rows_per_chunk=1, cols_per_chunk=1)
    assert_close(chunked, whole, atol=1e-4, rtol=0.0)


WRONG = [
    ({"mask": torch.full((HEIGHT, WIDTH), 255.0)}, "`mask` has values from 255 to 255, expected"),
    ({"mask": torch.full((HEIGHT, WIDTH), 255, dtype=torch.uint8)}, "`mask` has values from 255"),
    ({"mask": "hole.png"}, "`mask` is a str, expected PIL images or a tensor"),
    ({"mask": Image.new("L", (8, 8), 255)}, r"`mask` has shape \(1, 1, 8, 8\), expected"),
    ({"image": torch.zeros(3, 3, HEIGHT, WIDTH, dtype=torch.uint8)}, "`image` is torch.uint8 of"),
    ({"image": torch.zeros(3, HEIGHT, WIDTH)}, r"`image` is torch.float32 of shape \(3, 16, 24\)"),
    ({"image": torch.full((3, 3, HEIGHT, WIDTH), 255.0)}, "`image` has values from 255 to 255"),
    ({"image": torch.full((3, 3, HEIGHT, WIDTH), torch.nan)}, "`image` has values from nan"),
    ({"image": np.zeros((HEIGHT, WIDTH, 3))}, "`image` is a ndarray, expected PIL images or"),
    ({"image": []}, "`image` is a list of nothing, expected PIL images"),
    (
        {"image": [Image.new("RGB", size) for size in ((8, 8), (8, 16))]},
        "`image` has images of sizes",
    ),
    ({"mask": torch.ones(8, 8, dtype=torch.bool)}, r"`mask` has shape \(8, 8\), expected"),
    ({"mask": torch.ones(2, 1, HEIGHT, WIDTH, dtype=torch.bool)}, "`mask` has shape"),
    ({"mask": torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)}, "`mask` is False everywhere"),
    ({"image": torch.zeros(3, 3, 12, WIDTH)}, "height is 12, expected multiples"),
    ({"num_inference_steps": 0}, "`num_inference_steps` is 0, expected a whole number"),
    ({"resamplings": 0}, "`resamplings` is 0"),
    ({"blend_width": -1}, "`blend_width` is -1"),
    ({"guidance_scale": -1.0}, "`guidance_scale` is -1.0, expected 0 or more"),
    ({"code": "guess"}, "`code` is 'guess', expected image, latent"),
    ({"fit": None}, "`fit` is None, a code table needs features of quantiles"),
    ({"positions": "stretch"}, "`positions` is 'stretch'"),
    ({"output_type": "jpeg"}, "`output_type` is 'jpeg'"),
    ({"generator": generators([1])}, "`generator` is a list of 1, expected one per image: 3"),
    ({"mask": torch.ones(HEIGHT, WIDTH, dtype=torch.bool)}, "no pixel is known"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG, ids=[message for _, message in WRONG])
def test_what_does_not_fit_is_named(pipe, fit, photographs, mask, changes, message: str):
    arguments = {"image": to_tensor(photographs), "mask": mask, "fit": fit} | changes
    with pytest.raises(ValueError, match=message) as error:
        inpaint(pipe, **arguments)
    assert "\n" not in str(error.value)


def test_masks_are_taken_as_other_pipelines_take_them(pipe, fit, photographs, mask):
    x0 = to_tensor(photographs)
    expected = inpaint(pipe, x0, mask, fit=fit)
    grey = Image.fromarray(mask.numpy().astype(np.uint8) * 255)
    for given in (grey, [grey] * 3, grey.convert("1"), grey.convert("RGB"), mask * 0.6):
        assert torch.equal(inpaint(pipe, x0, given, fit=fit), expected)


def test_what_is_transparent_shows_white(pipe, fit):
    photo = Image.new("RGBA", (WIDTH, HEIGHT), (200, 30, 90, 0))
    made = pipe.outpaint(photo, right=P, fit=fit, output_type="latent", **QUICK).images
    assert (made[..., :WIDTH] == 1).all()


@pytest.mark.parametrize("kind", [EulerDiscreteScheduler, DPMSolverMultistepScheduler])
def test_any_solver_of_the_schedule_may_stand_in_the_pipeline(pipe, fit, photographs, mask, kind):
    expected = inpaint(pipe, to_tensor(photographs), mask, fit=fit)
    pipe.scheduler = kind.from_config(pipe.scheduler.config, use_karras_sigmas=True)
    assert torch.equal(inpaint(pipe, to_tensor(photographs), mask, fit=fit), expected)
    pipe.scheduler = FlowMatchEulerDiscreteScheduler()
    with pytest.raises(ValueError, match="`scheduler` is a FlowMatchEulerDiscreteScheduler"):
        inpaint(pipe, to_tensor(photographs), mask, fit=fit)


def test_a_model_that_cannot_see_images_says_so(photographs, mask):
    with pytest.raises(ValueError, match="no encoder and no code table"):
        inpaint(pipeline("latent"), to_tensor(photographs), mask)


# Outpainting


def outpaint(pipe: PatchDMPipeline, image: Any, **options: Any) -> Any:
    options = QUICK | {"generator": generators(range(len(image))), "code": "latent"} | options
    return pipe.outpaint(image, **options).images


@pytest.mark.parametrize(
    "margins", [(0, 0, 8, 0), (3, 0, 0, 0), (0, 5, 0, 13), (1, 2, 3, 4), (0, 0, 30, 0)], ids=str
)
@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (11, 5), (1, 1)], ids=str)
def test_the_image_is_kept_and_the_margins_are_made(pipe, photographs, margins, size):
    left, top, right, bottom = margins
    height, width = size
    given = photographs[:, :height, :width]
    pictures = [Image.fromarray(photograph) for photograph in given]
    found = outpaint(pipe, pictures, left=left, top=top, right=right, bottom=bottom)
    for picture, photograph in zip(found, given, strict=True):
        assert picture.size == (left + width + right, top + height + bottom)
        inside = np.asarray(picture)[top : top + height, left : left + width]
        assert np.array_equal(inside, photograph)


def test_outpainting_is_inpainting_on_the_canvas(pipe, fit, photographs):
    x0 = to_tensor(photographs)
    options = {"fit": fit, "code": "image", "output_type": "latent"}
    found = outpaint(pipe, x0[..., :16], right=8, **options)
    mask = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    mask[:, 16:] = True
    assert torch.equal(found, inpaint(pipe, x0, mask, fit=fit))


def test_positions_past_the_training_grid_are_counted_on_or_rescaled(pipe, photographs):
    x0 = to_tensor(photographs)
    options = {"right": 24, "output_type": "np"}
    counted = outpaint(pipe, x0, **options)
    rescaled = outpaint(pipe, x0, positions="rescale", **options)
    assert counted.shape == rescaled.shape == (3, HEIGHT, 2 * WIDTH, 3)
    np.testing.assert_allclose(counted[:, :, :WIDTH], photographs / 255, atol=1e-6)
    assert np.abs(counted - rescaled)[:, :, WIDTH:].max() > 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "`left`, `top`, `right` and `bottom` are 0, expected one above 0"),
        ({"left": -1}, "`left` is -1, expected at least 0"),
        ({"left": 1, "output_type": "jpeg"}, "`output_type` is 'jpeg'"),
        ({"left": 1, "num_inference_steps": 0}, "`num_inference_steps` is 0"),
    ],
)
def test_margins_that_do_not_fit_are_named(pipe, photographs, options, message: str):
    with pytest.raises(ValueError, match=message):
        outpaint(pipe, to_tensor(photographs), **options)
