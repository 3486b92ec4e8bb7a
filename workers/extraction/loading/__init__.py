"""From an archive to a model that runs."""
