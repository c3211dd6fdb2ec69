"""Restoring on an NVIDIA GPU: one restore is one launch of a CUDA graph.

device.py is all that is asked of CUDA, arena.py the memory, nodes.py the list of what a restore launches, chain.py puts
them together. docs/runtime.md tells the whole story.
"""
