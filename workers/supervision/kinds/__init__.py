"""The kinds of jobs: what each asks of a child, and what its subject's row says meanwhile."""
