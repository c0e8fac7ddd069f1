"""A stand-in for `ganrt.export.engines.compile_worker` on a machine where the library cannot be imported."""

import json
import sys

for _ in sys.stdin:
    answer = {"error": "TensorRT for RTX cannot be imported: libcudart is missing", "kind": "MachineError"}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
