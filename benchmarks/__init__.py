"""One program per published figure: `python -m benchmarks.NAME [--quick]`; `make bench` for all."""
