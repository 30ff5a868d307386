"""Models for people who differ in level more than in shape: two heads, shrinkage that learns not to adapt, a prefix state."""
