"""Measurements of time and memory, kept in ``data/bench/*.json``; run in the repository's own folder.

    python -m dsaml bench                     released, then engine
    python -m dsaml bench --recipe released   released: the authors' layers and ours on the same work
                                              engine: one listener, five models, memory
    python -m dsaml bench --scale             scale: how time and memory grow
    python -m dsaml bench --quality           quality: what adapting the head alone loses
    python -m dsaml bench --gpu               gpu: tasks at once, precision, compilation, all of the paper's steps
    python -m dsaml bench --inputs FOLDER     inputs: how fast songs become features

The machine may be shared and noisy. So every comparison is a ratio within one run: its sides take turns, and the median of
each is used.
"""
