"""The sampler's work between two evaluations, for CPUs and GPUs: one row of weights, one launch. Knows no network."""
