"""The backends: one file each, imported only when the backend is named, with its framework imported at the top.

To add one: write `open(bundle, variant, device, **options) -> Session` in a new file here, add a row to
`ganrt.backend.BACKENDS`, and add an extra to pyproject.toml. On the CPU, subclass `HostSession`. The conformance test
then covers it.
"""
