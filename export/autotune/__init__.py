"""Which engine, graph and precision: all that run here are measured in the whole restore, under a rule of parity."""
