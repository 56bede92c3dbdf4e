"""Speed and memory: each module prints one table."""

import patchdm  # noqa: F401 - it tells MKL how to compute, before anything is measured
