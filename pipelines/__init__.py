"""Flows: what runs when and where. What is stale, and how it is made, only DVC knows."""

import patchdm  # noqa: F401 - it tells MKL how to compute, for the flow and its children
