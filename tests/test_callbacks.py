"""Progress and callbacks of the pipeline."""

from __future__ import annotations

import diffusers
import pytest
import torch

from patchdm.pipeline import PatchDMPipeline
from tests.small_pipeline import CODE, images, pipeline


@pytest.fixture
def pipe() -> PatchDMPipeline:
    return pipeline()


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


def test_a_callback_ends_a_call(pipe, capfd: pytest.CaptureFixture[str]):
    seen = []

    def stop_at(last: int):
        def stop(caller, index, _t, tensors):
            seen.append(tensors["latents"])
            caller._interrupt = index == last
            return tensors

        return stop

    pipe.set_progress_bar_config(disable=False)
    ended = images(pipe, callback_on_step_end=stop_at(1), output_type="latent")
    assert pipe.interrupt
    assert len(seen) == 2
    assert torch.equal(ended, seen[-1])
    assert "2/3" in capfd.readouterr().err
    whole = images(pipe, callback_on_step_end=stop_at(9), output_type="latent")
    assert not pipe.interrupt
    assert len(seen) == 5
    assert not torch.equal(ended, whole)


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
