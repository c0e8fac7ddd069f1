"""Compare a wheel's file list with the checkout: one top-level name, every module of the three folders, no
test, not the scripts that make the evidence in docs/."""

import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {"ganrt": "ganrt", "export": "ganrt/export", "bench": "ganrt/bench"}
SUFFIXES = {".py", ".cu", ".h", ".html", ".js", ".css", ".svg", ".typed", ".safetensors"}


def main(wheel: str) -> int:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    wanted = {
        f"{target}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, target in FOLDERS.items()
        for path in (ROOT / folder).rglob("*")
        if path.suffix in SUFFIXES and "evidence" not in path.parts
    } | {"ganrt/weights/LICENSE", "ganrt/weights/README.md"}
    for problem, found in {"missing from": wanted - names, "unexpected in": names - wanted}.items():
        for name in sorted(found):
            print(f"{name} is {problem} the wheel")
    print(f"{len(names)} files, top level: {sorted({name.partition('/')[0] for name in names})}")
    return int(names != wanted)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
