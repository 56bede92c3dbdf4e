"""The paper's tables, rebuilt: its numbers beside those of a run."""
