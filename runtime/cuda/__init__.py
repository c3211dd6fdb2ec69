"""Restoring on an NVIDIA GPU: one restore is one launch of a CUDA graph.

device.py is all that is asked of CUDA, with streams.py and capture.py. arena.py is the memory, buffers.py what lies in
it, nodes.py the list of what a restore launches, graphs.py makes it one graph, lists.py keeps these, alone.py keeps
other threads from disturbing that, conditioner.py looks at the whole picture, chain.py puts them together. failures.py
and diagnosis.py tell what went wrong. docs/runtime.md tells the whole story.
"""
