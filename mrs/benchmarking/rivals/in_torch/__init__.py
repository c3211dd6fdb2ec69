"""Rivals that torch runs from the checkpoint, as users of the published code do."""
