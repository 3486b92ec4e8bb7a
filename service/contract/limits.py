"""How much a report may hold: workers stay within it, and the API refuses what does not."""

# Networks of a thousand layers exist; unrolled recurrent cells may have any number.
MAX_LAYERS = 1024
# Six numbers a feature, about 20 characters each: reports stay below 32 MB. The widest usual
# networks, large vision transformers, have 200,000 features in all.
MAX_LAYERS_FEATURES = 262_144
