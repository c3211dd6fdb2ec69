"""Training a small network on pictures of the user: `mrs-trt train`."""
