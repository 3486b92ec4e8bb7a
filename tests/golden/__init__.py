"""Reports of known models on known probes, kept figure by figure."""
