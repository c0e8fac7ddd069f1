"""Checks and measurements on a machine with an NVIDIA GPU: `make gpu-1` to `make gpu-4`, and `make bench-gpu`."""
