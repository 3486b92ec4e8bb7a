"""The findings of the paper, reproduced through the product: `python -m tests.reproduction`."""
