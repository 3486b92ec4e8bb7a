"""All tables. API and workers meet in them, and nowhere else."""
