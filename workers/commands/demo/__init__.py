"""The demonstration: a network that learns features, and a twin that does not."""
