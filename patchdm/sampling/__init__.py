"""From noise to images of any size."""

from patchdm.sampling.codes import sample_codes
from patchdm.sampling.denoise import predict_eps
from patchdm.sampling.generate import generate

__all__ = ["generate", "predict_eps", "sample_codes"]
