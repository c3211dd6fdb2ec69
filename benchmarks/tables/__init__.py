"""The tables of README and docs, made of the rows under version control: `python -m benchmarks.tables`."""
