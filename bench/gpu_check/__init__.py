"""Settles on a GPU what cannot be settled without one: `make gpu-check`.

Each stage measures in a process of its own, and within a time limit. What is wanted of the figures
is in verdicts.py.
"""
