"""One file per backend, imported only when it is named; each imports its framework plainly at the top.

To add one: write `open(bundle, precision, device, **options) -> Session` in a new file here, add a row to
`ganrt.backend.BACKENDS` and an extra to pyproject.toml. On the CPU, subclass `HostSession`. The conformance test then
runs it.
"""
