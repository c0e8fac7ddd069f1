"""What a library prints to standard output goes to standard error, while it works and no longer."""

import subprocess
import sys

import pytest

SCRIPT = """
import os
import sys

from ganrt.gpu import redirect_to_stderr

if sys.argv[1] == "closed":
    os.close(1)
else:
    print("before", flush=False)
with redirect_to_stderr():
    with redirect_to_stderr():
        os.write(2 if sys.argv[1] == "closed" else 1, b"of the library\\n")
try:
    with redirect_to_stderr():
        raise ValueError
except ValueError:
    pass
if sys.argv[1] == "open":
    sys.stdout.flush()
    os.write(1, b"after\\n")
"""


@pytest.mark.parametrize("state", ["open", "closed"])
def test_output_of_a_library_goes_to_standard_error(state: str) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, state], capture_output=True, text=True)
    assert "of the library\n" in done.stderr and "Error" not in done.stderr
    assert done.stdout == ("" if state == "closed" else "before\nafter\n")
