"""Build networks from the sections of params.yaml."""

from __future__ import annotations

from patchdm.config import Latent, Model, Train
from patchdm.models.latent import LatentMLP
from patchdm.models.semantic import CodeTable, SemanticEncoder
from patchdm.models.unet import PatchUNet


def build_unet(
    model: Model, sample_size: tuple[int, int] | None = None, train: Train | None = None
) -> PatchUNet:
    """Return an initialised U-Net for images of sample_size, (height, width).

    Its config records whether its training permits guidance.
    """
    return PatchUNet(
        patch_size=model.patch_size,
        pixel_fold=model.pixel_fold,
        channels=tuple(model.channels),
        res_blocks=model.res_blocks,
        attention_levels=tuple(model.attention_levels),
        norm_groups=model.norm_groups,
        dropout=model.dropout,
        embed_dim=model.embed_dim,
        time_channels=model.channels[0],
        cond_dim=model.code_dim,
        sample_size=sample_size,
        use_position=model.position,
        collage=model.collage,
        unconditional=None if train is None else train.unconditional,
    )


def build_code(model: Model, num_images: int) -> CodeTable | SemanticEncoder | None:
    """Return the source of global codes: a table (zeros), an encoder, or None."""
    if model.code == "table":
        return CodeTable(num_images, model.code_dim)
    if model.code == "encoder":
        # PAPER section 1: half a U-Net like the image model's, one level deeper.
        return SemanticEncoder(
            channels=(*model.channels, model.channels[-1]),
            res_blocks=model.res_blocks,
            attention_levels=(len(model.channels),),
            norm_groups=model.norm_groups,
            code_dim=model.code_dim,
        )
    return None


def build_latent(latent: Latent, code_dim: int) -> LatentMLP:
    """Return an initialised latent model."""
    return LatentMLP(code_dim=code_dim, layers=latent.layers, hidden=latent.hidden)
