"""A plan behind a server."""
