"""From noise to images of any size."""

from patchdm.sampling.codes import sample_codes
from patchdm.sampling.denoise import predict_eps

__all__ = ["predict_eps", "sample_codes"]
