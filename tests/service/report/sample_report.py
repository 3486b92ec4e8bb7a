"""A report as a worker completes it, small and made up, for tests to change."""

from typing import Any

from service.report.cards.catalogue import CARDS


def _projections(length: int) -> dict[str, Any]:
    return {
        "quality": [0.5] * length,
        "utilization": [0.9] * length,
        "cumulative_quality": [0.5] * length,
        "cumulative_utilization": [0.9] * length,
        "quality_chance_level": [0.1] * length,
        "dim_target": 2,
        "dim_learned": 2,
        "quality_at_dim_target": 0.5,
        "quality_at_dim_target_chance": 0.1,
    }


def _held_out() -> dict[str, Any]:
    def part(length: int) -> dict[str, Any]:
        # Energies of another probe need not decrease.
        energies = [1.0, 0.0, 2.0][:length]
        names = ("dim_target", "dim_learned", "quality_at_dim_target", "energy_outside")
        return {
            **_projections(length),
            "eigenvalues": energies,
            "energy_outside": 0.1,
            "confidence_interval": {name: [0.0, 2.0] for name in names},
        }

    whole = part(3)

    return {
        "probe": {
            "id": "01890a5d-ac96-774b-bcce-b302099a8058",
            "name": "digits-test",
            "version": 2,
            "sha256": "c" * 64,
            "n": 100,
            "classes": 2,
            "class_counts": [40, 60],
            "task": "classification",
            "inputs": [],
            "notes": [],
        },
        **whole,
        "centered": part(2),
        "minimality": {"rank": 1, "utilization": 0.9, "energy": 0.8},
        "performance": {
            "accuracy": 0.9,
            "loss": 0.3,
            "loss_kind": "cross_entropy",
            "subset_accuracy": None,
            "average_precision": None,
        },
        "confidence_interval": whole["confidence_interval"]
        | {
            "rank": [1.0, 1.0],
            "utilization": [0.8, 1.0],
            "energy": None,
            "accuracy": [0.8, 1.0],
            "loss": [0.1, 0.5],
        },
    }


def sample_layer(name: str, ranks: dict[str, float] | None) -> dict[str, Any]:
    """A layer that varies, with these effective ranks, or one that does not."""

    def vectors(length: int) -> dict[str, Any]:
        return {
            "rank": length,
            "eigenvalues": [1.0] * length,
            "cumulative_quality": [0.5] * length,
            "cumulative_utilization": [0.9] * length,
        }

    return {
        "name": name,
        "kind": "conv2d",
        "p": 3,
        **vectors(3 if ranks else 1),
        "centered": vectors(2 if ranks else 0),
        "effective_rank": ranks
        and {**ranks, "confidence_interval": {name: [1.0, 3.0] for name in ranks}},
        "d_lr": 0.4 if ranks else None,
        "cka_target": 0.2 if ranks else None,
        "cka_outputs": 0.3 if ranks else None,
        "confidence_interval": {"d_lr": [0.3, 0.5], "cka_target": None, "cka_outputs": [0.2, 0.4]}
        if ranks
        else None,
    }


def sample_report() -> dict[str, Any]:
    """A report with every part."""
    ranks = {"participation_ratio": 1.5, "entropy": 1.6, "rankme": 1.7, "stable": 1.2}
    minimality = {
        "rank": 1,
        "utilization": 0.99,
        "utilization_corrected": 0.98,
        "utilization_tapered": 0.98,
        "energy": 0.9,
        "distance": 0.1,
        "alignment": 0.95,
        "shape": 0.95,
        "k90_utilization": 1,
        "k95_utilization": 1,
        "k95_energy": None,
    }
    thresholds = {key.rsplit(".", 1)[1]: 1 for key in CARDS if ".thresholds." in key}
    identifier = "01890a5d-ac96-774b-bcce-b302099a8057"
    return {
        "analysis_id": identifier,
        "created_at": "2026-01-02T03:04:05Z",
        "schema_version": "1",
        "model": {
            "id": identifier,
            "name": "digits",
            "sha256": "a" * 64,
            "run": None,
            "step": 3,
            "parameters": 1000,
        },
        "probe": {
            "id": identifier,
            "name": "builtin:digits",
            "version": 1,
            "sha256": "b" * 64,
            "n": 500,
            "classes": 2,
            "class_counts": [200, 300],
            "task": "classification",
            "inputs": [
                {
                    "argument": "input",
                    "array": "x",
                    "stored": "uint8",
                    "dtype": "float32",
                    "transform": {"dtype": "float32", "scale": 1 / 16},
                    "done": "'x' (uint8 (500, 8, 8)): as float32; × 0.0625: as the spec says.",
                }
            ],
            "notes": ["The whole-valued floats are class labels: the model has 2 outputs."],
        },
        "feature_map": {
            "location": "the last aten::linear",
            "kind": "linear",
            "p": 4,
            "positions": 1,
            "outputs": 2,
            "bias": True,
            "link": "identity",
            "answer": "logits",
            "output": None,
            "verified": True,
            "weights": {"shape": [2, 4], "norm": 1.0},
            "consistency_residual": 1e-7,
            "warnings": [],
        },
        "spectrum": {
            "eigenvalues": [3.0, 1.0, 0.5],
            "relative": [1.0, 0.33, 0.17],
            "trace": 4.5,
            "rank": 3,
            "centered": {"eigenvalues": [1.0, 0.5], "relative": [1.0, 0.5], "rank": 2},
            "confidence_interval": {"trace": [4.0, 5.0], "rank": [3.0, 3.0]},
        },
        "projections": {**_projections(3), "centered": _projections(2)},
        "effective_rank": {
            **ranks,
            "uncentered": ranks,
            "confidence_interval": {name: [1.0, 3.0] for name in ranks},
        },
        "verdict": {
            "regime": "MF",
            "rule": "UED-2",
            "minimality": minimality,
            "confidence_interval": {name: [0.9, 1.0] for name in minimality},
            "reasons": ["U' = 0.98."],
            "thresholds": thresholds,
            "warnings": [],
            "assessment": {
                "summary": "minimal and good",
                "quality": 0.5,
                "quality_chance": 0.1,
                "quality_corrected": 0.44,
                "skill": 0.95,
                "held_out": False,
                "k99_agreement": 2,
                "confidence_interval": {
                    "quality": [0.4, 0.6],
                    "quality_corrected": [0.33, 0.56],
                    "skill": [0.9, 0.98],
                    "k99_agreement": [2.0, 2.0],
                },
            },
        },
        "neural_collapse": {
            "nc1": 0.2,
            "nc1_quotient": 0.3,
            "nc2_equinorm_means": 0.1,
            "nc2_equiangle_means": 0.1,
            "nc2_etf_means": 0.2,
            "nc3": 0.4,
            "nc4_mismatch": 0.01,
        },
        "compression": [
            {"k": 0, "accuracy": 0.6, "agreement": 0.6, "output_error": 1.0},
            {"k": 2, "accuracy": 0.98, "agreement": 1.0, "output_error": 0.0},
        ],
        "alignment": {
            "d_lr": 0.1,
            "cka_target": 0.8,
            "cka_outputs": 0.9,
            "confidence_interval": {"d_lr": [0.0, 0.2], "cka_target": None, "cka_outputs": None},
        },
        "performance": {
            "accuracy": 0.98,
            "loss": 0.1,
            "loss_kind": "cross_entropy",
            "subset_accuracy": None,
            "average_precision": None,
            "confidence_interval": {"accuracy": [0.96, 0.99], "loss": None},
        },
        "held_out": _held_out(),
        "layers": [sample_layer("conv1", ranks), sample_layer("conv2", None)],
        "provenance": {
            "versions": {"phiscope": "0.1.0", "torch": "2.13.0", "numpy": "2.3.0"},
            "device": "cpu",
            "dtype": "float32",
            "solver": {"method": "full", "accuracy": 1e-14},
            "seed": 0,
            "options": {"batch_size": "auto"},
            "timings": {"forward": 1.5},
        },
    }
