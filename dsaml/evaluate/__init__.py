"""Scores, protocols, floors and intervals: what a prediction is worth."""
