"""Photographs: where they come from, how they are split, and the store training reads."""
