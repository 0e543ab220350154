"""The way out: OpenAI-compatible servers behind one Protocol, and the rehearsal that needs none."""
