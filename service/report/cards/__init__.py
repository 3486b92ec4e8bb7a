"""The metric cards, by part of the report. `service.report.cards.catalogue` puts them together."""
