"""Measure a server: what batching gains, what overload does to it, and what ten minutes of mixed traffic leave behind.

    python -m ganrt.bench.serving gain BUNDLE
    python -m ganrt.bench.serving overload BUNDLE
    python -m ganrt.bench.serving soak BUNDLE ...

Each prints the lines of its result. The server is a process of its own; the clients are in this one, and share the
machine with it.
"""
