"""One module a DVC stage: parameters in, library called, files out."""

import patchdm  # noqa: F401 - it tells MKL how to compute, before any stage can start it
