"""How this API speaks HTTP: problems, uploads, pages of lists, ETags, shared fields."""
