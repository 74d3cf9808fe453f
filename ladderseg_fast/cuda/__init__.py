"""CUDA kernels: sources, compilers, images."""
