"""Serve generators: a batcher of rows, which any Python service can use, and an HTTP server with a page."""
