"""The production server: gunicorn's threads, in this process (docs/decisions/0002), and perhaps further processes that
answer ``/v1`` (docs/decisions/0019).
"""
