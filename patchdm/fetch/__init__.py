"""Photographs from anywhere: a source to data/raw."""
