"""Searching the solver and the time grid that come nearest to the many-step solution."""
