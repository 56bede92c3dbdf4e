"""The paper's tables, rebuilt: its numbers next to those of a run."""
