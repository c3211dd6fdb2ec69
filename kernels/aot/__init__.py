"""Every kernel compiled for named GPUs on a machine that has none, and what its machine code shows."""
