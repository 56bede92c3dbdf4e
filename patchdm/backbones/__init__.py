"""Frozen image backbones: photographs in, feature vectors out."""
