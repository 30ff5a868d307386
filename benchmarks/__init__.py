"""Measurements of time and memory: what ``python -m dsaml bench`` runs and ``data/bench/*.json`` holds.

The machine may be shared and noisy. So every comparison is a ratio within one run: its sides take turns, and the median of
each is used.
"""
