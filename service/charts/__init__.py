"""Pictures of a report: pure functions from its figures to SVG, and the addresses they have."""
