"""An arena for personalizers: one annotated song in, the listener's curves of other songs out. One method, one file."""
