"""CUDA text: writers of kernels, and an emulator that runs them on a CPU."""
