"""From a recording to what a network is given: slices, log-mels, windows, global encoders, the feature cache."""
