"""The worker processes that are there, as far as the API knows of them."""
