"""Rows of a table, one for each thing that a step may do."""

from __future__ import annotations

from mrs.kernels.table import Row

ROWS = {
    "order 1": Row(0.9, 0.2, -0.1, 0.8, -0.3, 0.5),
    "order 2": Row(0.9, 0.2, -0.1, 0.8, -0.3, 0.5, b1=-0.25),
    "order 3": Row(0.9, 0.2, -0.1, 0.8, -0.3, 0.5, b1=-0.25, b2=0.125),
    "order 4": Row(0.9, 0.2, -0.1, 0.8, -0.3, 0.5, b1=-0.25, b2=0.125, b3=-0.0625),
    "only q2": Row(0.9, 0.2, -0.1, 0.8, -0.3, 0.5, b2=0.125),
    "only q3": Row(0.9, 0.2, -0.1, 0.8, -0.3, 0.5, b3=0.125),
    "momentum": Row(0.9, 0.2, -0.1, 0.8, -0.3, 0.5, m=0.375),
    "noise": Row(0.9, 0.2, -0.1, 0.8, -0.3, 0.5, n=0.4),
    "all": Row(2.9, -1.2, -0.7, 0.8, -0.3, 0.5, b1=-0.25, b2=0.125, b3=-0.0625, n=0.4, m=0.375),
    "last": Row(0.0, 0.0, 1.0, 0.0, 0.0, 1.0),
}
