"""What torch.compile makes of the networks, counted: graphs, breaks, compilations."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch._dynamo.testing import CompileCounter
from torch._dynamo.utils import counters

from patchdm.diffusion.schedules import paper_scheduler
from patchdm.models import CodeTable, SemanticEncoder
from patchdm.training.image import ImageTraining
from patchdm.training.loop import place_schedules
from tests.models.test_unet import small_unet
from tests.small_pipeline import CLOSE, CODE, P, images, pipeline

BATCH = 2
CANVASES = {
    "shifted": ([(1, 2), (2, 1), (2, 3), (1, 6)], [(4, 4), (3, 6), (5, 4), (2, 10)]),
    "blend": ([(2, 3), (3, 2), (1, 6)], [(5, 5), (6, 5), (5, 8)]),
}
"""Tiling -> small and large canvases in patches.

On a CPU PyTorch chooses the kernels of convolutions by whether there are 16 or more patches, and a
graph of its own for one. So all grids of these canvases have 2 to 15 patches, or 16 and more.
"""


@pytest.fixture(autouse=True)
def compiler() -> Iterator[CompileCounter]:
    """Counts the graphs that are compiled; they run as they are."""
    torch._dynamo.reset()
    counters.clear()
    yield CompileCounter()
    torch._dynamo.reset()


def breaks() -> dict[str, int]:
    return dict(counters["graph_break"])


@pytest.mark.parametrize("code", ["table", "encoder"])
def test_five_training_steps_are_one_graph(code: str, compiler: CompileCounter):
    table = CodeTable(5, CODE)
    encoder = SemanticEncoder(channels=(8, 16), attention_levels=(1,), code_dim=CODE)
    chosen = table if code == "table" else encoder
    unet = small_unet(dropout=0.1).requires_grad_().train()
    module = ImageTraining(unet, chosen, paper_scheduler(), min_snr_gamma=5.0)
    place_schedules(module, torch.device("cpu"))
    module.compile(backend=compiler)
    for step in range(5):
        noise = torch.randn(BATCH, 3, 2 * P, 2 * P)
        losses = module(
            pixels=torch.randint(256, (BATCH, 2 * P, 2 * P, 3), dtype=torch.uint8),
            inside=torch.ones(BATCH, 1, 2 * P, 2 * P),
            corner=torch.full((BATCH, 2), float(step)),
            offset=torch.zeros(BATCH, 2, dtype=torch.int64),
            image=torch.tensor([step, 1]),
            whole=torch.randint(256, (BATCH, P, 2 * P, 3), dtype=torch.uint8)
            if code == "encoder"
            else None,
            keep_code=torch.ones(BATCH, 1),
            t=torch.tensor([step, 900]),
            noise=noise,
        )
        losses["loss"].mean().backward()
    assert breaks() == {}
    assert compiler.frame_count == 1


@pytest.mark.parametrize("tiling", ["shifted", "blend"])
@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_canvases_of_all_sizes_share_two_graphs(large: bool, tiling: str, compiler: CompileCounter):
    """One of f_E and one of f_D, in the layout that models are read in."""
    sizes = CANVASES[tiling][large]
    pipe = pipeline()
    pipe.unet.to(memory_format=torch.channels_last)
    options = {"tiling": tiling, "guidance_scale": 0.5}
    expected = [images(pipe, height=h * P, width=w * P, **options) for h, w in sizes]
    pipe.unet.compile(backend=compiler)
    for (height, width), image in zip(sizes, expected, strict=True):
        made = images(pipe, height=height * P, width=width * P, **options)
        torch.testing.assert_close(made, image, **CLOSE)
        assert compiler.frame_count == 2
    assert breaks() == {}
