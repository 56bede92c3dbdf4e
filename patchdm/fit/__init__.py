"""A run for photographs, a size, some hours and a machine: chosen, estimated, written."""
