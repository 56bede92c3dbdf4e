"""The networks: PatchUNet, the sources of global codes, the latent MLP."""

from patchdm.models.latent import LatentMLP
from patchdm.models.semantic import CodeTable, SemanticEncoder
from patchdm.models.unet import PatchUNet

__all__ = ["CodeTable", "LatentMLP", "PatchUNet", "SemanticEncoder"]
