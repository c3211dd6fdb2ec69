"""Picture formats, a file each: what a file asks for is told before Pillow decodes it."""
