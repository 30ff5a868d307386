"""Every figure, drawn from result files."""
