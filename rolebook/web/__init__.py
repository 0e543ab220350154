"""The pages, and what the browser talks to."""
