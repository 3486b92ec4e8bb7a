"""The metric cards, by part of the report. `service.analyses.metrics` puts them together."""
