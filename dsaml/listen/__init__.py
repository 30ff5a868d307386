"""One's own music: predict, personalize, and the listening study."""
