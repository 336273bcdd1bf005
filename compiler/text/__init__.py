"""What C and CUDA sources of a plan share: names of its memory, programs as text, and which pieces meet in memory."""
