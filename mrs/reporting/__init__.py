"""The page that `mrs-trt report` makes of results: one HTML file that needs nothing else."""
