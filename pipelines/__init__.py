"""Flows: what runs when and where. What is stale, and how it is made, only DVC knows."""
