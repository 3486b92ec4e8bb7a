"""Probe files, read inside the confined child: arrays in, batches of tensors out."""
