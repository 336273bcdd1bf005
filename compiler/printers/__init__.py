"""Graphs and plans as text: the same model gives the same bytes, on every machine and in every run."""

from graphnet.compiler.printers import dot, explain, export, html, listing, memory, schedule, summary

__all__ = ["dot", "explain", "export", "html", "listing", "memory", "schedule", "summary"]
