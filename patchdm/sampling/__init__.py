"""From noise to images of any size."""

from patchdm.sampling.denoise import predict_eps
from patchdm.sampling.generate import sample_codes

__all__ = ["predict_eps", "sample_codes"]
