"""From noise to images of any size."""

from patchdm.sampling.denoise import predict_eps
from patchdm.sampling.generate import generate, sample_codes

__all__ = ["generate", "predict_eps", "sample_codes"]
