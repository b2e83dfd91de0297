"""Checkpoints to ONNX, and ONNX to 8-bit integers; each compared before it is kept."""
