"""Sizes of pictures, padding, types and layouts, and whether kernels move their pixels whole."""

from __future__ import annotations

# (N, C, H, W), (H', W'), the network's type, channels last, the picture's type, and whether pixels are moved whole: in
# groups of 16 of bytes and of 4 floats, where lines of the network are as many or more of its own groups.
SIZES = {
    "a single element": ((1, 1, 1, 1), (1, 1), "float32", False, "uint8", False),
    "a single pixel": ((1, 3, 1, 1), (1, 1), "bfloat16", True, "float32", False),
    "a single pixel padded": ((1, 3, 1, 1), (8, 8), "float16", True, "float32", False),
    "primes": ((2, 1, 7, 13), (7, 13), "float32", False, "float32", False),
    "primes padded": ((1, 3, 7, 13), (8, 16), "float16", False, "uint8", False),
    "primes with channels last": ((1, 2, 31, 37), (31, 37), "float16", True, "uint8", False),
    "a line more than a block": ((1, 1, 33, 16), (33, 16), "float32", False, "uint8", False),
    "a line less than a block": ((1, 1, 63, 16), (63, 16), "bfloat16", False, "float32", False),
    "pixels, a line less than a block": ((1, 3, 7, 16), (7, 16), "float32", True, "uint8", True),
    "pixels, a line more than a block": ((1, 3, 9, 16), (9, 16), "float16", True, "uint8", True),
    "pixels of half precision in planes": ((1, 3, 17, 16), (17, 16), "float16", False, "float32", True),
    "bytes in a multiple of 8 but not 16": ((1, 3, 3, 8), (3, 8), "float32", True, "uint8", False),
    "floats in a multiple of 4 but not 8": ((1, 3, 3, 12), (3, 12), "float32", True, "float32", True),
    "lines too short for the network": ((1, 3, 3, 4), (3, 4), "float16", True, "float32", False),
    "lines padded for the network": ((1, 3, 3, 4), (4, 8), "float16", True, "float32", True),
    "padding that is no multiple": ((1, 3, 3, 16), (3, 20), "float32", True, "uint8", False),
    "a batch of pixels padded": ((3, 3, 2, 16), (4, 32), "bfloat16", True, "uint8", True),
    "a batch of planes padded": ((3, 3, 2, 4), (3, 8), "bfloat16", False, "float32", True),
    "four channels": ((2, 4, 3, 5), (4, 8), "float32", True, "uint8", False),
}
