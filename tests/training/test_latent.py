"""What the latent model trains on: z-normalised codes, noise, an L1 loss."""

from __future__ import annotations

import torch
from torch.testing import assert_close

from patchdm.diffusion.schedules import latent_scheduler
from patchdm.models import LatentMLP
from patchdm.training.latent import LatentTraining, code_draw

CODES = torch.randn(10, 4, generator=torch.Generator().manual_seed(0)) * 3 + 5


def test_every_epoch_visits_every_code_once() -> None:
    draw = code_draw(CODES, num_timesteps=1000, seed=0)
    for epoch in range(3):
        first = 10 * epoch
        halves = [range(first, first + 5), range(first + 5, first + 10)]
        chosen = torch.cat([draw(items)["codes"] for items in halves])
        assert_close(chosen.sort(dim=0).values, CODES.sort(dim=0).values)


def test_a_draw_depends_on_seed_and_items_alone() -> None:
    first, again, other = (code_draw(CODES, num_timesteps=1000, seed=s) for s in (0, 0, 1))
    for items in (range(56, 64), range(24, 32)):
        batch = first(items)
        for name, value in again(items).items():
            assert torch.equal(value, batch[name])
            assert not torch.equal(value, other(items)[name])
        assert torch.equal(batch["codes"], CODES[batch["image"]])


def test_the_loss_is_l1_on_normalised_codes() -> None:
    scheduler = latent_scheduler()
    latent = LatentMLP(code_dim=4, layers=2, hidden=8, time_channels=8)
    latent.fit_normalization(CODES)
    batch = code_draw(CODES, num_timesteps=1000, seed=0)(range(8))
    loss = LatentTraining(latent, scheduler)(**batch)["loss"]

    t, noise = batch["t"], batch["noise"]
    z = (batch["codes"] - CODES.mean(dim=0)) / CODES.std(dim=0, correction=0)
    a = scheduler.alphas_cumprod[t][:, None]
    expected = (latent(a.sqrt() * z + (1 - a).sqrt() * noise, t) - noise).abs().mean(dim=1)
    assert_close(loss, expected)


def test_training_learns_the_codes() -> None:
    """Two kinds of codes: after some steps, eps is predicted better than by 0."""
    codes = torch.tensor([[1.0, 2.0], [3.0, -2.0]]).repeat(8, 1)
    torch.manual_seed(0)
    latent = LatentMLP(code_dim=2, layers=2, hidden=32, time_channels=8)
    latent.fit_normalization(codes)
    module = LatentTraining(latent, latent_scheduler())
    draw = code_draw(codes, num_timesteps=1000, seed=0)
    optimizer = torch.optim.AdamW(latent.parameters(), lr=3e-3)
    losses = []
    for step in range(200):
        loss = module(**draw(range(64 * step, 64 * step + 64)))["loss"].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-20:]) / 20 < 0.5
