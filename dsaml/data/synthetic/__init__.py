"""The embedded corpora: sound, simulated listeners, and the files they are written in."""
