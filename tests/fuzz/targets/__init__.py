"""What is fuzzed: SEEDS, from which the fuzzer starts, and `one_input`, which raises if something is wrong."""
