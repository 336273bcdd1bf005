"""CUDA source of a plan: kernels for the steps of its schedule, and the launches that run them."""
