"""One's own music: predict, personalize."""
