"""Commands of `phiscope` that speak to a running service, as any client does."""
