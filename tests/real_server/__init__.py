"""Rolebook against a real server that somebody else wrote; see docs/real-servers.md. Not run unless asked for."""
