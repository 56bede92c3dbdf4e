"""Patch-DM: diffusion on patches, joined by feature collage (Ding et al., ICLR 2024)."""

import os

# MKL, which PyTorch uses on a CPU, chooses kernels by the alignment of memory (at least on AMD's
# CPUs), so that equal inputs give different bytes. It reads this variable once, at its first call;
# PyTorch offers no other way to set it. A value set by the user stays.
os.environ.setdefault("MKL_CBWR", "AUTO")
