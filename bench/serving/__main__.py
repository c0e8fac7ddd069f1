"""The commands."""

from __future__ import annotations

import asyncio

import click

from .gain import measure_gain
from .overload import measure_overload
from .soak import measure_soak


@click.group()
def main() -> None:
    """Measure a server."""


@main.command()
@click.argument("bundle")
@click.option("--seconds", default=8.0, help="Length of a round.")
@click.option("--rounds", default=3, help="Rounds of each measurement; they alternate.")
def gain(bundle: str, seconds: float, rounds: int) -> None:
    """Throughput with and without batches, beside what the model itself gains from a batch of 16."""
    click.echo(asyncio.run(measure_gain(bundle, seconds, rounds)))


@main.command()
@click.argument("bundle")
@click.option("--seconds", default=60.0, help="Length of the overload.")
@click.option("--times", default=4.0, help="Offered load, as a multiple of the capacity.")
@click.option("--max-queue", default=2.0, help="The server's option, in seconds.")
def overload(bundle: str, seconds: float, times: float, max_queue: float) -> None:
    """Requests at several times the rate that the server can answer."""
    click.echo(asyncio.run(measure_overload(bundle, seconds, times, max_queue)))


@main.command()
@click.argument("bundles", nargs=-1, required=True)
@click.option("--seconds", default=600.0, help="Length of the traffic.")
def soak(bundles: tuple[str, ...], seconds: float) -> None:
    """Mixed traffic: samples, pictures, mistakes, clients that go away."""
    click.echo(asyncio.run(measure_soak(bundles, seconds)))


if __name__ == "__main__":
    main()
