"""The networks: DSAML as in Figures 2 and 3, its layers, the four baselines, the released code's checkpoints."""
