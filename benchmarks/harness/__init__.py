"""What every benchmark uses: servers, rounds, reports, digests of the code."""
