"""Looking into a model without data: what it takes, what it returns, and where its head is."""
