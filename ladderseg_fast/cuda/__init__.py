"""CUDA kernels: where their images come from."""
