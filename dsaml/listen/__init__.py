"""One's own music: predict, personalize."""

from pathlib import Path

DEMO_MODEL = Path("models/demo.safetensors")
"""The model that ``make book`` leaves."""
