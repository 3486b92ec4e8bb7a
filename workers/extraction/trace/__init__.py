"""Running a model, and seeing each operation that it runs."""
