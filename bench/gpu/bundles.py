"""The bundles that the steps on a GPU machine use, exported and proven beforehand on a machine with all of ganrt.

    python -m ganrt.bench.gpu.bundles FOLDER        also as `make gpu-bundles`

They are small enough to carry: some 30 MB together.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import click

from ganrt.bundle import Bundle
from ganrt.errors import MachineError

SPEED = "dcgan-64"
"""The bundle that throughput is measured with: DCGAN of 64 pixels and half its usual width, in all precisions."""
_BUNDLES = {
    "labels": ("resnet", {"width": 16, "latent": 24, "classes": 10, "shared": 8, "hierarchical": True}, "fp32,fp16"),
    "pictures": ("srresnet", {"scale": 2, "width": 16, "blocks": 2}, "fp32,fp16"),
    SPEED: ("dcgan", {"width": 32}, "fp32,fp16,int8"),
}
"""Name -> family, its settings, and the precisions. The first draws labels, the second takes pictures of any size."""


def find_bundle(folder: Path, name: str) -> Path:
    """Return the path of a bundle. Raises MachineError, naming the command, if it is not there."""
    path = folder / f"{name}.ganrt"
    if not path.is_dir():
        raise MachineError(f"{path} is not there; make it with `make gpu-bundles` where all of ganrt is installed")
    return path


def list_bundles(folder: Path) -> list[Path]:
    """Return the paths of all bundles. Raises MachineError if one is not there."""
    return [find_bundle(folder, name) for name in _BUNDLES]


def export_bundle(name: str, folder: Path) -> Path:
    """Export and prove a bundle, unless it is there. Raises MachineError if that fails."""
    from ..generators import GeneratorRecipe, write_generator

    path = folder / f"{name}.ganrt"
    if path.is_dir():
        return path
    family, config, precisions = _BUNDLES[name]
    with tempfile.TemporaryDirectory() as work:
        checkpoint = write_generator(GeneratorRecipe(family, config), Path(work) / f"{name}.safetensors")
        command = ["export", str(checkpoint), "--out", str(path), "--precision", precisions]
        done = subprocess.run([sys.executable, "-m", "ganrt", *command], check=False)
    if done.returncode:
        raise MachineError(f"{name} was not exported, for the reason above")
    _drop_pictures(path)
    return path


def _drop_pictures(folder: Path) -> None:
    """Drop the pictures that a bundle has for people; they are a fifth of it."""
    bundle = Bundle.read(folder)
    pictures = [name for name in bundle.files if name.endswith(".png")]
    bundle.without_files(*pictures).write_manifest()
    for name in pictures:
        (folder / name).unlink()


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
def main(folder: Path) -> None:
    """Write the bundles that are missing into FOLDER."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in _BUNDLES:
        path = export_bundle(name, folder)
        size = sum(file.stat().st_size for file in path.iterdir())
        click.echo(f"{path}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
