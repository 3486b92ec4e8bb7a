"""Who uses a model, a probe or a file: asked before it is deleted."""
