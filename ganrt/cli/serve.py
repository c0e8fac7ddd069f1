"""The command `serve`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ganrt.backend import BACKENDS
from ganrt.cli.options import FILE, device_option, import_extra
from ganrt.errors import ArtifactError, RequestError
from ganrt.json_reader import read_bytes

if TYPE_CHECKING:
    from ganrt.serve.models import Models
    from ganrt.serve.settings import ModelSettings

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_LONGEST_TOKEN = 4096


@click.command()
@click.argument("bundles", metavar="[NAME=]BUNDLE ...", nargs=-1, required=True)
@click.option("--host", default="127.0.0.1", help="Address to listen on; 0.0.0.0 is all of this machine.")
@click.option("--port", default=8000, type=click.IntRange(0, 65535), help="Port to listen on; 0 is any free one.")
@click.option(
    "--backend",
    "backends",
    multiple=True,
    metavar="NAME",
    show_default="auto",
    help=f"Backend to run on: {', '.join(BACKENDS)}; repeatable, to compare them.",
)
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    metavar="NAME",
    show_default="auto",
    help="Precision to run in: fp32, bf16, fp16, int8 or fp8; repeatable, to compare them.",
)
@click.option("--variant", "variants", multiple=True, metavar="NAME", help="Variant to run, in place of a precision.")
@device_option
@click.option("--unproven", is_flag=True, help="Use variants even if they are not proven on this machine.")
@click.option("--threads", type=click.IntRange(1), show_default="all that may be used", help="CPU threads of a model.")
@click.option("--workers", default=1, type=click.IntRange(1, 64), help="Processes, each with the models in its memory.")
@click.option(
    "--max-batch",
    type=click.IntRange(1),
    show_default="as many as make it faster",
    help="Most pictures in a batch.",
)
@click.option("--max-wait", default=2.0, metavar="MS", help="How long a request waits for others to fill its batch.")
@click.option("--max-queue", default=10.0, metavar="SECONDS", help="Reject requests that would wait longer.")
@click.option("--timeout", default=60.0, metavar="SECONDS", help="Time in which a request is answered.")
@click.option("--max-body", default=32, metavar="MIB", type=click.IntRange(1), help="Largest body of a request.")
@click.option(
    "--max-pixels",
    default=64,
    metavar="MILLIONS",
    type=click.IntRange(1),
    help="Most pixels of a request, or of its answer.",
)
@click.option("--token-file", type=FILE, metavar="FILE", help="File with a token that requests must have.")
@click.option(
    "--cors", "origins", multiple=True, metavar="ORIGIN", help="Web site that may use the server; repeatable."
)
@click.option("--access-log", is_flag=True, help="Log every request.")
def serve(
    bundles: tuple[str, ...],
    host: str,
    port: int,
    backends: tuple[str, ...],
    precisions: tuple[str, ...],
    variants: tuple[str, ...],
    workers: int,
    token_file: Path | None,
    **options: Any,
) -> None:
    """Serve bundles over HTTP, with a page at /.

    Requests share batches. The first bundle answers requests that name no model. With several backends, precisions or
    variants, each combination is a model of its own, and the page compares them.
    """
    server = import_extra("ganrt.serve.server", "serve", "serving over HTTP")
    settings = import_extra("ganrt.serve.settings", "serve", "serving over HTTP")
    shared = {name: options[name] for name in ("device", "unproven", "threads") if options[name] is not None}
    if variants and precisions:
        raise RequestError("--variant and --precision were given; a variant has its own precision: give one of them")
    ways = _combine(backends, "variant" if variants else "precision", variants or precisions)
    wanted = settings.Settings(
        models=tuple(_list_models(bundles, ways, shared, settings.ModelSettings)),
        largest_batch=options["max_batch"],
        longest_wait_s=options["max_wait"] / 1e3,
        longest_queue_s=options["max_queue"],
        timeout_s=options["timeout"],
        max_body=options["max_body"] * 2**20,
        max_pixels=options["max_pixels"] * 10**6,
        token=None if token_file is None else _read_token(token_file),
        origins=options["origins"],
        access_log=options["access_log"],
    )
    listening = server.bind(host, port, workers)
    address = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
    names = ", ".join(model.name for model in wanted.models)
    click.echo(f"loading {names}; {address} answers as soon as they are ready")

    def say_ready(models: Models) -> None:
        for model in models:
            info, most = model.generator.info, model.batcher.largest_batch
            click.echo(f"{model.name}: {info.config}, {info.precision}, batches of up to {most}")
        click.echo(f"ready: {address}")

    server.run_server(wanted, listening, workers, say_ready)


def _combine(backends: Sequence[str], kind: str, values: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """Return the suffix of a name and the arguments of `ganrt.load` of every way to run a bundle; the first has no
    suffix."""
    ways: list[tuple[str, dict[str, str]]] = []
    for backend, value in product(backends or ("auto",), values or ("auto",)):
        parts = [text for text, all_of_them in ((backend, backends), (value, values)) if len(all_of_them) > 1]
        suffix = "".join(f".{part}" for part in parts) if ways else ""
        loading = {"backend": backend}
        ways.append((suffix, loading if value == "auto" else {**loading, kind: value}))
    return ways


def _list_models(
    bundles: Sequence[str],
    ways: Sequence[tuple[str, dict[str, str]]],
    shared: dict[str, Any],
    kind: type[ModelSettings],
) -> list[ModelSettings]:
    """Return the settings of every bundle in every way. Raises RequestError for a name that cannot be one."""
    models = []
    for text in bundles:
        given, equals, path = text.partition("=")
        name, path = (given, path) if equals and "/" not in given else (Path(text).name.removesuffix(".ganrt"), text)
        if not _NAME.fullmatch(name):
            raise RequestError(
                f"{name!r:.100} cannot name a model: use letters, digits, '-', '_' and '.'; rename it as in NAME={path}"
            )
        models += [kind(name + suffix, name, path, {**way, **shared}) for suffix, way in ways]
    names = [model.name for model in models]
    for name in names:
        if names.count(name) > 1:
            raise RequestError(f"two models would have the name {name}; rename one as in NAME=BUNDLE")
    return models


def _read_token(path: Path) -> str:
    """Read a token. Raises ArtifactError if the file cannot be read, or holds none."""
    token = read_bytes(path, _LONGEST_TOKEN).decode("utf-8", "replace").strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ArtifactError(f"{path} must hold a token of printable ASCII characters without spaces")
    return token
