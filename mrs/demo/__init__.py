"""`python -m mrs.demo`: rain on a photograph, and its restoration with the weights that ship."""
