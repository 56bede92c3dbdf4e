"""Patch-DM: diffusion on patches, joined by feature collage (Ding et al., ICLR 2024)."""

import os

# MKL, which PyTorch computes with on a CPU, picks its kernels by the alignment of memory (on AMD's
# CPUs at least), and then equal inputs give unequal bytes. It asks for this variable at its first
# call and never again; PyTorch hands on no other way to tell it. What the user has set stays.
os.environ.setdefault("MKL_CBWR", "AUTO")
