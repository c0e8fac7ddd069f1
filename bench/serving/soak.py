"""What a long time of mixed traffic leaves behind in a server: memory, files, threads."""

from __future__ import annotations
