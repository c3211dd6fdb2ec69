"""How fast and how good restores are: measured, compared, and kept in files that a report reads."""
