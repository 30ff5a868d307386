"""The commands behind ``python -m dsaml``, by subject. Thin: each parses, calls the package, prints."""
