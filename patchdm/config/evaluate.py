"""Sections evaluate, ablation and report: measurements and what the report shows."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from patchdm.config.section import NotNegative, Positive, Section, Text


class Evaluate(Section):
    """Metrics of the samples against the training images."""

    extractor: Text
    """Feature extractor of all metrics: `efficientnet-lite0`, `inception-adm`, or one of
    torch-fidelity's, e.g. `clip-vit-b-32`, `dinov2-vit-b-14`."""
    weights: Text | None
    """Local weights file of the first two extractors; null: from their package or a download."""
    batch_size: Positive
    blocks: Positive
    """Equal blocks of consecutive seeds, measured separately; tables give mean and minimum."""
    kid_subset_size: Annotated[int, Field(ge=2)]
    """Images in each of KID's subsets, at most those of a block."""
    nearest_k: Positive
    """k of precision, recall, density, coverage: the k-th neighbour's distance is the radius."""
    crop_size: Positive
    """Side in pixels of the full-resolution crops of crop-FID, at most that of the image."""
    crops_per_image: Positive


class Ablation(Section):
    """The paper's ablation: the same stages with other parameters, for every variant and seed."""

    variants: list[
        Literal[
            "full", "no-position", "pixel-fixed", "pixel-random", "no-collage", "no-code",
            "eps-prediction", "v-prediction",
        ]
    ]  # fmt: skip
    """Empty: no ablation. `full` has the run's own parameters."""
    samplings: list[Literal["shifted", "training-codes", "guided", "guided-interval"]]
    """Ways to sample from the networks of `full`, measured beside the variants."""
    seeds: list[NotNegative]
    """Values of base.seed; empty without variants."""

    @property
    def names(self) -> list[str]:
        """The variants, then the samplings."""
        return [*self.variants, *self.samplings]

    @property
    def cells(self) -> list[str]:
        """NAME-SEED of all that is trained or sampled."""
        return [f"{name}-{seed}" for name in self.names for seed in self.seeds]

    @model_validator(mode="after")
    def _seeds_go_with_variants(self) -> Self:
        if bool(self.variants) != bool(self.seeds):
            raise ValueError(
                f"seeds is {self.seeds}, expected with variants = {self.variants}: "
                f"{'one or more' if self.variants else 'none'}"
            )
        if self.samplings and "full" not in self.variants:
            raise ValueError(
                f"samplings is {self.samplings}, expected none without the variant full, of whose "
                "networks they are"
            )
        for name in ("variants", "samplings", "seeds"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"{name} is {values}, expected each value once")
        return self


class Report(Section):
    """What the HTML report shows."""

    sheet_images: Positive
    """Images on each sheet."""
    nearest_images: Positive
    """Samples shown next to their nearest training images."""
