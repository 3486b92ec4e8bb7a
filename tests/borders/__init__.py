"""Models and probes as people bring them, drawn at random, with the truth in eager mode.

Each case is a model, saved in some way, and a probe for it that says no more than it has to. Where
that leaves a choice, the product must ask.
"""
