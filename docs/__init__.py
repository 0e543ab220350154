"""The documentation, and `generate`, which writes into it what the code knows."""
