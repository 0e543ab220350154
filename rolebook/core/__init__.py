"""The domain: what a persona, a prompt, a turn and a session are. No framework, no I/O of its own."""
