"""Errors raised for numbers that cannot be diagnosed."""


class DiagnosticsError(ValueError):
    """The samples cannot be diagnosed; the message says why and what to do."""


class NonFiniteError(DiagnosticsError):
    """Features, outputs or targets hold NaN or infinity, or overflow when squared."""


class TooFewSamplesError(DiagnosticsError):
    """There are not enough samples, or not enough folds that hold any."""


class DegenerateFeaturesError(DiagnosticsError):
    """Every feature is zero on every sample, so there is no operator to diagonalize."""


class IncompatibleShapesError(DiagnosticsError):
    """Two sets of sums, or the arrays of one batch, do not belong together."""
