"""Norms on devices that are not CPUs, computed on one."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from patchdm.models.blocks import GroupNorm


class OnGpu(torch.Tensor):
    """A tensor of the CPU that says that it is elsewhere."""

    device = torch.device("cuda")


@pytest.mark.parametrize("shape", [(3, 8, 5, 4), (2, 8, 7), (2, 8, 2, 1)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@torch.no_grad()
def test_a_gpus_group_norm_is_the_cpus(shape: tuple[int, ...], dtype: torch.dtype):
    norm = GroupNorm(4, 8)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = (3 + 2 * torch.randn(shape)).to(dtype)
    if x.ndim == 4:
        x = x.to(memory_format=torch.channels_last)
    found = norm(x.as_subclass(OnGpu)).as_subclass(torch.Tensor)
    exact = F.group_norm(x.double(), 4, norm.weight.double(), norm.bias.double())
    assert found.dtype == dtype
    assert found.stride() == x.stride()  # no copy into another layout, and none back
    assert_close(found, exact.to(dtype))
    assert_close(found, norm(x))
