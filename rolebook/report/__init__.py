"""What a comparison shows, laid out for people: charts, findings, and files to take away.

``PAGES`` are the Jinja pieces and ``STATIC`` the style sheets that the web pages and the files have in common.
"""

from pathlib import Path

PAGES = Path(__file__).parent / "pages"
STATIC = Path(__file__).parent / "static"
