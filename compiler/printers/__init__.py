"""Graphs and plans as text: the same model gives the same bytes, on every machine and in every run."""
