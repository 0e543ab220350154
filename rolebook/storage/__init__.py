"""The session log: one SQLite file, opened through sqlite-utils.

``log`` is the face of it; the rest, from the file upwards: ``connection`` opens and reports, ``schema`` makes
tables, ``record`` turns values into rows and back, ``write``, ``edit`` and ``trash`` change, ``query``,
``search``, ``status`` and ``export`` read, ``unwritten`` keeps what the file cannot take now, and ``owner`` tells
a living process from a dead one.
"""
