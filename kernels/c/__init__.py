"""C text: writers of kernels, the compiler that is found for it, and the threads it runs on."""
