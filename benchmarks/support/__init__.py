"""What benchmarks share: peers, load, the machine, results and plots."""
