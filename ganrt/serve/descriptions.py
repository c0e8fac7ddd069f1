"""What a model is and takes, as JSON, for `GET /v1/models`."""

from __future__ import annotations

import math
from typing import Any

from ganrt.sample_request import TRUNCATION, find_truncations
from ganrt.serve.models import Model
from ganrt.spec import Label, Latent, Scalar


def describe_model(model: Model) -> dict[str, Any]:
    """Return the description of a model; docs/serve.md has its fields."""
    spec, info = model.spec, model.generator.info
    label, truncations = spec.find(Label), find_truncations(spec)
    return {
        "name": model.name,
        "bundle": model.bundle,
        "family": spec.family,
        "kind": "transform" if spec.images else "sample",
        "backend": info.config.backend,
        "variant": info.config.variant,
        "device": info.config.device,
        "precision": info.precision,
        "threads": info.threads,
        "psnr": None if info.proof is None else _drop_infinity(round(info.proof.worst_psnr, 1)),
        "largest_batch": model.batcher.largest_batch,
        "seeded": bool(spec.streams),
        "interpolates": spec.find(Latent) is not None and not spec.images,
        "latents": [
            {"name": item.name, "shape": item.shape, "distribution": item.distribution}
            for item in spec.inputs
            if isinstance(item, Latent)
        ],
        "classes": None if label is None else label.classes,
        "truncation": truncations and {"low": truncations[0], "high": _drop_infinity(truncations[1])},
        "scalars": [
            {"name": item.name, "low": item.range[0], "high": item.range[1], "default": item.default}
            for item in spec.inputs
            if isinstance(item, Scalar) and item.name != TRUNCATION
        ],
        "pictures": [
            {
                "name": item.name,
                "role": item.role,
                "channels": item.channels,
                "size": item.size,
                "multiple_of": item.multiple_of,
            }
            for item in spec.images
        ],
        "output": {"channels": spec.output.channels, "size": spec.output.size, "scale": spec.output.scale},
    }


def _drop_infinity(value: float) -> float | None:
    """JSON has no infinity."""
    return value if math.isfinite(value) else None
