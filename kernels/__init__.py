"""Arrays and source text: the bodies of ops for each backend. Kernels know no graph."""
