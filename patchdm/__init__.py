"""Patch-DM: diffusion on patches, joined by feature collage (Ding et al., ICLR 2024)."""
