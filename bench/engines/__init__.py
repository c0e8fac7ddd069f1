"""Is any other engine, used by itself as its documentation says, faster than what ganrt chooses for the same generator?

    python -m ganrt.bench.engines BUNDLE [--batch N] [--size HxW] [--rounds 9] [--engine NAME ...] --out FOLDER

Every engine gets a process of its own, and one computes at a time. The rounds of all engines alternate in shuffled
order. The table groups engines by the PSNR of their worst golden sample.
"""
