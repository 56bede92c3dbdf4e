"""Tests mirror the tree; `make test` runs all but the slow ones."""

import patchdm  # noqa: F401 - it tells MKL how to compute, before any test can start it
