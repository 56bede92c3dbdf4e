"""Formats on disk: images, photographs in data/raw, the patch store, vectors, shards."""
