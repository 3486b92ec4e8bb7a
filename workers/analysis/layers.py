"""Every layer's figures, from the same pass over the probe as those of Φ."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Self

from pydantic import JsonValue
from torch import Tensor, nn

from service.contract.limits import MAX_LAYERS, MAX_LAYERS_FEATURES
from workers.diagnostics import Alignment, EffectiveRank, Interval
from workers.diagnostics.layer_sums import LAYER_FOLDS, LayerSums
from workers.diagnostics.layers import LayerDiagnosis, LayerProjections, diagnose_layer
from workers.diagnostics.output_space import OutputSpace
from workers.extraction import Extractor
from workers.extraction.layers.watching import LayerExecution, LayerTap, find_layers, some
from workers.extraction.refusals import Refusal, refuse
from workers.extraction.trace.execution import Batch

_BYTES = 8
"""Bytes of a float64, the dtype of all sums."""

# Most p × p matrices at a time, while a layer is diagonalized and its folds are left out in turn:
# 8.4 were measured.
_WORKING_MATRICES = 9


class LayerPass:
    """Sums over the layers of one model, in one pass over a probe.

    Attributes:
        tap: Dispatch mode that watches the model while it runs on a batch.
        warnings: What a reader of the figures must know, each as `code: sentence`.
    """

    def __init__(
        self, layers: list[LayerExecution], sums: LayerSums, tap: LayerTap, warnings: list[str]
    ) -> None:
        self.tap = tap
        self.warnings = warnings
        self._layers = layers
        self._sums = sums

    @classmethod
    def prepare(
        cls,
        model: nn.Module,
        extractor: Extractor,
        batch: Batch,
        budget: int,
        *,
        n: int,
        seed: int = 0,
        space: OutputSpace | None = None,
        classes: int | None = None,
    ) -> Self:
        """Find the layers of a model and choose those whose sums fit into memory.

        If memory is short, the widest layers get no intervals, or are left out, and the analysis is
        not refused: memory grows with the square of the width, so a few layers take most of it,
        and all others still get their figures.

        Args:
            model: The model.
            extractor: What was found in it.
            batch: A first batch.
            budget: Bytes that the sums may take; the diagonalization of one layer may take as many
                again.
            n: Number of samples of the probe.
            seed: Seed of the dealing to folds.
            space: The space whose coordinates of the outputs are summed; None: the outputs
                themselves.
            classes: Number of classes of the labels; None: there are no labels. Memory is then
                reserved for as many target values as outputs.

        Raises:
            JobError: The model runs other operations on other batches, or answers for each
                position.
        """
        positions = extractor.feature_map.positions
        if positions > 1:
            raise refuse(
                Refusal.BAD_OUTPUT,
                f"The model gives {positions} rows of outputs per sample, and layers are compared "
                "with one row per sample.",
                hint='Ask for "layers": "penultimate", or save the model with pooled outputs.',
                positions=positions,
            )
        found = find_layers(model, extractor, batch)
        outputs = extractor.feature_map.outputs if space is None else space.size
        functions = outputs + (outputs if classes is None else min(classes, n))
        kept, left_out = _affordable(found.found, functions, budget)
        in_folds = _affordable_in_folds(kept, functions, budget)
        undivided = [layer for layer in kept if layer not in in_folds]
        warnings = list(found.warnings)
        if left_out:
            warnings.append(_too_wide(left_out, functions, budget))
        if undivided:
            warnings.append(_without_intervals(undivided, functions, budget))
        sums = LayerSums(
            [layer.p for layer in kept],
            n=n,
            in_folds=[layer in in_folds for layer in kept],
            seed=seed,
            classes=classes,
        )
        return cls(kept, sums, LayerTap(kept, found.operations), warnings)

    def add(self, outputs: Tensor, targets: Tensor | None, weights: Tensor | None = None) -> None:
        """Add the batch that the tap has seen.

        Args:
            outputs: The model's outputs on the batch, or their coordinates, `(batch, c)`.
            targets: Values, `(batch, d)`, or labels, `(batch,)`; None without targets.
            weights: How much each sample counts, `(batch,)`; None: all alike.

        Raises:
            JobError: The model ran other operations than on the first batch.
        """
        self._sums.update(self.tap.take(len(outputs)), outputs, targets, weights)

    def figures(self, *, output_tolerance: float) -> list[JsonValue]:
        """Return each layer's part of the report, and add a warning about layers without one.

        Args:
            output_tolerance: `dim Ĥ` counts singular values of the outputs above this share of the
                first.
        """
        entries: list[JsonValue] = []
        broken: list[str] = []
        for layer, folds in zip(self._layers, self._sums.moments(), strict=True):
            diagnosis = diagnose_layer(folds, output_tolerance=output_tolerance)
            if diagnosis is None:
                broken.append(layer.name)
            else:
                entries.append(_entry(layer, diagnosis))
        if broken:
            self.warnings.append(
                "layers_not_finite: there are no figures for layers that give NaN or infinity on "
                f"the probe: {some(broken)}."
            )
        return entries


def _affordable(
    layers: tuple[LayerExecution, ...], functions: int, budget: int
) -> tuple[list[LayerExecution], list[LayerExecution]]:
    """Return the layers whose sums and report fit into the bounds, and the wider ones left out."""
    by_width = sorted(layers, key=lambda layer: layer.p)
    kept: list[LayerExecution] = []
    needed = features = 0
    for layer in by_width[:MAX_LAYERS]:
        needed += _bytes(layer, functions)
        features += layer.p
        if max(needed, _working_bytes(layer)) > budget or features > MAX_LAYERS_FEATURES:
            break
        kept.append(layer)
    chosen = set(kept)
    return [x for x in layers if x in chosen], by_width[len(kept) :]


def _affordable_in_folds(
    layers: list[LayerExecution], functions: int, budget: int
) -> set[LayerExecution]:
    """Return the layers, narrowest first, whose sums by fold fit into memory."""
    needed = sum(_bytes(layer, functions) for layer in layers)
    chosen = set()
    for layer in sorted(layers, key=lambda layer: layer.p):
        needed += (LAYER_FOLDS - 1) * _bytes(layer, functions)
        if needed > budget:
            break
        chosen.add(layer)
    return chosen


def _bytes(layer: LayerExecution, functions: int) -> int:
    """Return the bytes of a layer's inner products with itself, the outputs and the targets."""
    return _BYTES * layer.p * (layer.p + functions)


def _working_bytes(layer: LayerExecution) -> int:
    """Return the bytes that are needed temporarily while a layer's figures are computed."""
    return _BYTES * _WORKING_MATRICES * layer.p**2


def _too_wide(left_out: list[LayerExecution], functions: int, budget: int) -> str:
    needed = sum(_bytes(layer, functions) for layer in left_out)
    working = _working_bytes(left_out[-1])
    return (
        f"layers_too_wide: there are no figures for the widest layers: {_widths(left_out)}. Sums "
        f"over all layers may take {budget >> 20:,} MiB, a share of a job's memory, and as much "
        f"diagonalizing one of them. Sums over these would add {needed >> 20:,} MiB, and "
        f"diagonalizing the widest takes {working >> 20:,} MiB; a report has room for "
        f"{MAX_LAYERS:,} layers and {MAX_LAYERS_FEATURES:,} features."
    )


def _without_intervals(layers: list[LayerExecution], functions: int, budget: int) -> str:
    needed = (LAYER_FOLDS - 1) * sum(_bytes(layer, functions) for layer in layers)
    by_width = sorted(layers, key=lambda layer: layer.p)
    return (
        f"layers_without_intervals: there are no intervals for the widest layers: "
        f"{_widths(by_width)}. These take sums over each of {LAYER_FOLDS} folds, "
        f"{needed >> 20:,} MiB more, and sums over all layers may take {budget >> 20:,} MiB, a "
        "share of a job's memory."
    )


def _widths(layers: list[LayerExecution]) -> str:
    """Return the names and widths of layers given in ascending order of width, widest first."""
    return some([f"{layer.name} (p = {layer.p:,})" for layer in reversed(layers)])


def _entry(layer: LayerExecution, diagnosis: LayerDiagnosis) -> JsonValue:
    ranks = diagnosis.effective_rank
    bounds = diagnosis.confidence_interval
    return {
        "name": layer.name,
        "kind": layer.kind,
        "p": layer.p,
        **_lists(diagnosis.uncentered),
        "centered": _lists(diagnosis.centered),
        "effective_rank": None
        if ranks is None
        else {**asdict(ranks), "confidence_interval": _intervals(EffectiveRank, bounds)},
        **asdict(diagnosis.alignment),
        "confidence_interval": _intervals(Alignment, bounds),
    }


def _intervals(
    figures: type[EffectiveRank | Alignment], bounds: Mapping[str, Interval | None]
) -> JsonValue:
    """Return the intervals of some of the figures; None if there are no intervals."""
    if not bounds:
        return None
    found = {field.name: bounds[field.name] for field in fields(figures)}
    return {name: None if interval is None else list(interval) for name, interval in found.items()}


def _lists(projections: LayerProjections) -> dict[str, JsonValue]:
    quality = projections.cumulative_quality
    return {
        "rank": projections.rank,
        "eigenvalues": projections.eigenvalues.tolist(),
        "cumulative_quality": None if quality is None else quality.tolist(),
        "cumulative_utilization": None
        if projections.cumulative_utilization is None
        else projections.cumulative_utilization.tolist(),
    }
