"""From coarse to fine: what a canvas begins as, and the regions whose codes it gets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from patchdm.sampling.coarse import canvases_of, enlarged, first_step
from tests.small_pipeline import CODE, P, images, pipeline


def test_steps_that_are_left():
    assert [first_step(share, 8) for share in (1.0, 0.5, 0.26, 0.01)] == [0, 4, 6, 7]
    for strength in (0.0, -1.0, 1.5, float("nan")):
        with pytest.raises(ValueError, match=f"`strength` is {strength}, expected"):
            first_step(strength, 8)


def test_rows_are_those_of_the_whole():
    image = torch.rand(1, 3, 5, 7) * 2 - 1
    rows = enlarged(image, 40, 56)
    whole = rows(0, 40)
    assert_close(torch.cat([rows(at, at + 8) for at in range(0, 40, 8)], dim=2), whole)
    assert_close(enlarged(image, 5, 7)(0, 5), image)  # of its own size it is itself
    constant = torch.full((1, 3, 4, 4), 0.25)
    assert_close(enlarged(constant, 12, 20)(0, 12), torch.full((1, 3, 12, 20), 0.25))
    ramp = torch.linspace(-0.5, 0.5, 8).expand(1, 3, 8, 8)
    assert (enlarged(ramp, 8, 32)(0, 8).diff(dim=-1)[..., 4:-4] > 0).all()


def test_the_pipeline_begins_with_an_image():
    pipe = pipeline()
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 13, 3), np.uint8))
    cond = torch.ones(1, CODE)
    kept = images(pipe, image=photo, strength=0.01, num_inference_steps=50, cond=cond)
    canvas = canvases_of(
        torch.tensor(np.asarray(photo) / 127.5 - 1).permute(2, 0, 1)[None], 1, (3, P, 2 * P)
    )
    assert kept.shape == (1, 3, P, 2 * P)
    assert (kept - (canvas + 1) / 2).abs().mean() < 0.1  # one step from little noise
    more = images(pipe, image=photo, strength=0.9, num_inference_steps=50, cond=cond)
    assert (more - kept).abs().mean() > 0.05


def test_images_that_do_not_fit():
    pipe = pipeline()
    with pytest.raises(ValueError, match=r"`image` has shape .*, expected \(1, 3, h, w\)"):
        images(pipe, image=torch.zeros(1, 1, 4, 4))
    with pytest.raises(ValueError, match="`strength` is 2.0, expected"):
        images(pipe, image=torch.zeros(1, 3, 4, 4), strength=2.0)
