"""Text that C and CUDA share: views of memory, scalar expressions and their maths, programs, index spaces."""
