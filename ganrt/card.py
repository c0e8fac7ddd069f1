"""Parts of the model card: README.md of a bundle, in the form that model hubs read."""

from __future__ import annotations

from ganrt.spec import Label, Spec


def format_front_matter(spec: Spec) -> str:
    """Return the lines that model hubs search by."""
    return f"""---
library_name: ganrt
{_hub_task(spec)}tags:
- ganrt
- onnx
- {spec.family}
---"""


def _hub_task(spec: Spec) -> str:
    """The model hub's name of the task; it has none for class-conditional generators."""
    if spec.images:
        return "pipeline_tag: image-to-image\n"
    return "" if spec.find(Label) else "pipeline_tag: unconditional-image-generation\n"


def format_usage(spec: Spec, name: str) -> str:
    """Return a code block that loads and runs the bundle of this name, and a table of the inputs."""
    inputs = "\n".join(f"| `{item.name}` | {item} |" for item in spec.inputs)
    return f"""```python
import ganrt

generator = ganrt.load("{name}")
{_format_call(spec)}
```

| input | what it is |
| --- | --- |
{inputs}"""


def _format_call(spec: Spec) -> str:
    if spec.images:
        pictures = ", ".join(f'"{item.role}.png"' for item in spec.images)
        return f"picture = generator.transform({pictures})  # uint8 (H, W, C)"
    label = ", labels=0" if spec.find(Label) else ""
    return f"images = generator.sample(16, seed=7{label})  # uint8 (16, H, W, C)"
