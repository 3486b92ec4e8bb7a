"""Commands of `phiscope` beside those that run it."""
