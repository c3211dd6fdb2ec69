"""Restoring with a plan: files, engines, chains, pools, pictures. Knows neither solvers nor networks, and no torch."""
