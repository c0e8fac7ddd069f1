"""Scripts that make the pages in docs/training from finished runs. They are not part of the wheel.

Each is run as `python -m ganrt.training.evidence.NAME`; its docstring has the command.
"""
