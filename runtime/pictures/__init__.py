"""Pictures of strangers into arrays and back: formats, limits, colour, metadata, folders."""
