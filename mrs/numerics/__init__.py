"""Schedules, time grids, methods and solvers: everything that is a table before it is run. No library but NumPy."""
