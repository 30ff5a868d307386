"""Measurements of time and memory, kept in ``data/bench/*.json``; run in the repository's own folder.

    python -m dsaml bench                     engine: training, adaptation, prediction, against the straightforward way
    python -m dsaml bench --scale             scale: how time and memory grow
    python -m dsaml bench --quality           quality: what adapting the head alone loses
    python -m dsaml bench --inputs FOLDER     inputs: how fast songs become features

The machine may be shared and noisy. So every comparison is a ratio within one run: its sides take turns, and the median of
each is used.
"""
