"""Serve generators: a batcher of rows, which any Python service can use, and an HTTP server with a page."""

from ganrt.serve.batcher import Batcher
from ganrt.serve.jobs import Answer
from ganrt.serve.monitor import Monitor

__all__ = ["Answer", "Batcher", "Monitor"]
