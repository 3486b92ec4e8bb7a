"""The report: its schema, and what each of its figures means."""
