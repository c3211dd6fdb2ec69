"""The commands of `mrs-trt`, a file each: its arguments, and a thin call of what does the work.

Only what `--help` needs is imported at the top of these files.
"""
