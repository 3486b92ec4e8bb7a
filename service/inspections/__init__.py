"""What is inside a model: its inputs, its outputs, and the layers that could be its head."""
