"""Predictors that run a network of torch: checkpoints, CUDA, the middle of a training."""
