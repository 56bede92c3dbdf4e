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
from diffusers import DPMSolverMultistepScheduler, SchedulerMixin
from torch import Tensor
from torch.testing import assert_close

from patchdm.diffusion.schedules import image_scheduler, latent_scheduler, paper_scheduler
from patchdm.errors import PatchDMError
from patchdm.formats.shards import read_image
from patchdm.models import CodeTable, LatentMLP, PatchUNet, SemanticEncoder
from patchdm.models.build import build_latent, build_unet
from patchdm.pipeline import PatchDMPipeline
from stages._common import LATENT, PATCHDM, SAMPLES
from stages.sample import sample
from tests.models.test_unet import small_unet
from tests.stages.tiny import tiny_params

P, CODE = 16, 16
CLOSE = {"atol": 1e-4, "rtol": 0.0}
"""Of images that other sums have rounded: 7e-6 was found, and half a grey level is 2e-3."""


def parts() -> dict[str, Any]:
    """Return every part of a small pipeline, in eval mode."""
    torch.manual_seed(1)
    models = {
        "unet": small_unet(),
        "latent": LatentMLP(CODE, 3, 24),
        "encoder": SemanticEncoder(channels=(8, 16), attention_levels=(1,), code_dim=CODE),
        "code_table": CodeTable(5, CODE),
    }
    schedulers = {"scheduler": paper_scheduler(), "latent_scheduler": latent_scheduler()}
    return {name: model.eval() for name, model in models.items()} | schedulers


def pipeline(**changes: Any) -> PatchDMPipeline:
    pipe = PatchDMPipeline(**parts() | changes)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def pipe() -> PatchDMPipeline:
    return pipeline()


def images(pipe: PatchDMPipeline, seeds: tuple[int, ...] = (3,), **changes: Any) -> Tensor:
    """Return what small inputs give, one image a seed."""
    inputs = {
        "batch_size": len(seeds),
        "height": P,
        "width": 2 * P,
        "num_inference_steps": 3,
        "latent_num_inference_steps": 2,
        "generator": [torch.Generator().manual_seed(seed) for seed in seeds],
        "output_type": "pt",
    }
    return pipe(**inputs | changes).images


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
    for changes in ({"guidance_scale": 0.5}, {"tiling": "blend"}, {"tiling": "alternate"}):
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
        ({"tiling": "woven"}, "`tiling` is 'woven', expected shifted, alternate, average, blend"),
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


# Progress and callbacks


def test_progress_bar(pipe, capfd: pytest.CaptureFixture[str]):
    images(pipe)
    assert capfd.readouterr().err == ""
    pipe.set_progress_bar_config(disable=False)
    images(pipe)
    assert "3/3" in capfd.readouterr().err


def test_callbacks_see_every_step(pipe):
    seen = []

    def note(caller, index, t, tensors):
        seen.append((caller is pipe, index, int(t), set(tensors)))
        return tensors

    expected = images(pipe)
    assert torch.equal(images(pipe, callback_on_step_end=note), expected)
    assert seen == [(True, i, t, {"latents"}) for i, t in enumerate((666, 333, 0))]
    seen.clear()
    inputs = {"callback_on_step_end_tensor_inputs": pipe._callback_tensor_inputs}
    assert torch.equal(images(pipe, callback_on_step_end=note, **inputs), expected)
    assert seen[0][3] == {"latents", "cond"}


def test_callbacks_change_tensors_and_guidance(pipe):
    def blacken_last(caller, index, _t, tensors):
        if index == caller.num_timesteps - 1:
            tensors["latents"] = torch.zeros_like(tensors["latents"])
        return tensors

    assert not images(pipe, callback_on_step_end=blacken_last, output_type="latent").any()

    def drop_code(_caller, _index, _t, tensors):
        tensors["cond"].zero_()  # in place
        return {}

    changes = {"callback_on_step_end_tensor_inputs": ["cond"]}
    changed = images(pipe, callback_on_step_end=drop_code, **changes)
    assert not torch.allclose(changed, images(pipe), atol=1e-3)

    def raise_guidance(caller, _index, _t, tensors):
        caller._guidance_scale += 1.0
        return tensors

    guided = images(pipe, guidance_scale=1.0, callback_on_step_end=raise_guidance)
    assert pipe.guidance_scale == 4.0
    assert not torch.allclose(guided, images(pipe, guidance_scale=1.0), atol=1e-3)


def test_callback_objects_name_their_tensors(pipe):
    class Doubling(diffusers.callbacks.PipelineCallback):
        tensor_inputs = ["cond", "latents"]  # noqa: RUF012

        def callback_fn(self, _pipeline, _index, _t, tensors):
            assert tensors["cond"].shape == (1, CODE)
            return tensors | {"latents": 2 * tensors["latents"]}

    both = diffusers.callbacks.MultiPipelineCallbacks([Doubling(), Doubling()])
    one_step = {"num_inference_steps": 1, "output_type": "latent"}
    expected = images(pipe, **one_step)
    assert torch.equal(images(pipe, callback_on_step_end=Doubling(), **one_step), 2 * expected)
    assert torch.equal(images(pipe, callback_on_step_end=both, **one_step), 4 * expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "`batch_size` is 0, expected a whole number of 1 or more"),
        ({"batch_size": 1.0}, "`batch_size` is 1.0, expected a whole number"),
        ({"num_inference_steps": 0}, "`num_inference_steps` is 0, expected a whole number"),
        ({"num_inference_steps": True}, "`num_inference_steps` is True, expected a whole number"),
        ({"num_inference_steps": 1001}, "DDIMScheduler takes no 1001 steps: "),
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


# Solvers

SPREAD = 0.2


class Gaussian(PatchUNet):
    """The perfect network for images of independent pixels N(0, SPREAD**2)."""

    alphas = paper_scheduler().alphas_cumprod

    def encode(self, patches, t, positions, cond):  # noqa: ARG002
        return [patches]

    def decode(self, features, t, positions, cond):  # noqa: ARG002
        alpha = self.alphas[t.long()]
        factor = (1 - alpha).sqrt() / variance(alpha)
        (x_t,) = features
        return x_t * factor.repeat_interleave(len(x_t) // len(t))[:, None, None, None]


def variance(alpha: Tensor) -> Tensor:
    """Variance of a noisy pixel."""
    return alpha * SPREAD**2 + 1 - alpha


def solved(name: str, num_steps: int = 250, **config: Any) -> tuple[Tensor, Tensor]:
    """Return x_T and x_0 by one of diffusers' solvers."""
    kind: type[SchedulerMixin] = getattr(diffusers, name)
    solver = kind.from_config(paper_scheduler().config, **config)
    network = Gaussian(patch_size=P, channels=(8, 16))
    network.alphas = getattr(solver, "alphas_cumprod", network.alphas)
    pipe = PatchDMPipeline(network, solver)
    pipe.set_progress_bar_config(disable=True)
    x_T = torch.randn(2, 3, P, 2 * P, generator=torch.Generator().manual_seed(0))
    inputs = {"height": P, "width": 2 * P, "latents": x_T, "output_type": "latent"}
    generator = torch.Generator().manual_seed(1)
    return x_T, pipe(2, num_inference_steps=num_steps, generator=generator, **inputs).images


@pytest.mark.parametrize(
    "name",
    [
        "DDIMScheduler",
        "DPMSolverMultistepScheduler",
        "DPMSolverSinglestepScheduler",
        "UniPCMultistepScheduler",
        "EulerDiscreteScheduler",
        "HeunDiscreteScheduler",
        "PNDMScheduler",
    ],
)
def test_solvers_reach_the_solution(name: str):
    """The probability flow of Gaussian images is known: they shrink. DDIM is 0.021 off."""
    x_T, x_0 = solved(name)
    start = paper_scheduler().alphas_cumprod[-1]
    expected = x_T * SPREAD / variance(start).sqrt()
    assert_close(x_0, expected, atol=0.025, rtol=0.0)


@pytest.mark.parametrize("sigmas", ["use_karras_sigmas", "use_exponential_sigmas"])
@pytest.mark.parametrize(
    "name",
    [
        "DEISMultistepScheduler",
        "DPMSolverMultistepScheduler",
        "DPMSolverSinglestepScheduler",
        "UniPCMultistepScheduler",
        "HeunDiscreteScheduler",
    ],
)
def test_spread_sigmas_reach_the_solution(name: str, sigmas: str):
    """Of a cosine schedule the first steps share a time there. Differences in levels of 255."""
    cosine = {"beta_schedule": "squaredcos_cap_v2"}
    expected = solved("DDIMScheduler", 500, **cosine)[1]
    found = solved(name, 100, **cosine, **{sigmas: True})[1]
    assert (found - expected).abs().mean() * 127.5 < 0.5


@pytest.mark.parametrize(
    "name",
    [
        "FlowMatchEulerDiscreteScheduler",
        "EDMEulerScheduler",
        "IPNDMScheduler",
        "CMStochasticIterativeScheduler",
        "ScoreSdeVeScheduler",
        "RePaintScheduler",
        "DDIMInverseScheduler",
    ],
)
def test_schedulers_that_cannot_denoise_are_named(name: str):
    with pytest.raises(ValueError, match=f"`scheduler` is a {name}, expected a solver"):
        solved(name, 10)


def test_sigmas_that_leave_the_schedule_out_are_named():
    """As beta sigmas do where the last signal-to-noise ratio is near zero."""

    class Jumping(DPMSolverMultistepScheduler):
        def set_timesteps(self, num_inference_steps: int) -> None:
            super().set_timesteps(num_inference_steps)
            self.timesteps = torch.tensor([998] * (num_inference_steps - 1) + [3])

    pipe = pipeline(scheduler=Jumping.from_config(paper_scheduler().config))
    with pytest.raises(ValueError, match="jumps from t = 998 to 3, expected sigmas that spread"):
        images(pipe, num_inference_steps=10)


@pytest.mark.parametrize("name", ["DDPMScheduler", "EulerAncestralDiscreteScheduler"])
def test_solvers_that_add_noise(name: str):
    x_T, x_0 = solved(name)
    assert abs(x_0.std() / SPREAD - 1) < 0.1
    assert abs((x_T * x_0).mean()) < 0.5 * SPREAD, "noise was replaced"
    assert torch.equal(x_0, solved(name)[1]), "all noise comes from the generator"
