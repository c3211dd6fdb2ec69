"""The way from a checkpoint to what is deployed: a plan, an ONNX file of the whole sampler, a served model."""
