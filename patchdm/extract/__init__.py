"""Photographs to training images: data/raw to data/patches."""
