"""A small pipeline with every part, and what it gives."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from patchdm.diffusion.schedules import latent_scheduler, paper_scheduler
from patchdm.models import CodeTable, LatentMLP, SemanticEncoder
from patchdm.pipeline import PatchDMPipeline
from tests.models.test_unet import small_unet

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
