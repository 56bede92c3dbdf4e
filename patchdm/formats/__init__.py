"""What lies on disk: images, photographs as they came, the patch store, vectors, shards."""
