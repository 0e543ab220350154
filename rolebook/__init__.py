"""Rolebook keeps AI roles as files: personas, prompt templates, and a log of what they answered."""

__version__ = "0.1.0"
