"""The documentation, as Markdown, served at `/guide`."""
