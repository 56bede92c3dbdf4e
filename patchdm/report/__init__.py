"""The HTML report of a run: its inputs, its figures, its page."""
