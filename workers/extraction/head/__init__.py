"""Finding the last linear layer, and what comes after it."""
