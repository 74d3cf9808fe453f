"""The command `ladderseg`."""
