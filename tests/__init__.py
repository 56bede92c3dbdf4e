"""Tests mirror the tree; `make test` runs all but the slow ones."""
