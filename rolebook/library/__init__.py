"""Files and what they mean: personas and prompt templates read from folders."""
