"""The warm parent and the confined children that it forks: what opens models and probes."""
