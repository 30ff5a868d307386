"""DSAML: personalized dynamic music emotion recognition with dual-scale attention and meta-learning."""

__version__ = "0.1.0"
