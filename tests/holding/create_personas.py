"""Creates personas and saves them again until it is killed: `python -m tests.holding.create_personas FOLDER`."""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path

from rolebook.core.session import new_id
from rolebook.core.source import FileKey
from rolebook.library.file_library import FileLibrary
from rolebook.library.source_files import SourceFiles


def main() -> None:
    """Say each id after its file stands, and save every other one once more."""
    folder = Path(sys.argv[1])
    files = SourceFiles(FileLibrary(folder / "personas", folder / "templates"))
    run = new_id()
    for number in count():
        key = FileKey("persona", f"p-{run}-{number}")
        system = f"You are number {number}.\n" * 200
        text = files.new_text(key, {"name": f"{number}", "system": system})
        source = files.write(key, text, etag="")
        print(key.id, flush=True)
        if number % 2:
            files.write(key, text.replace("You are", "Be"), etag=source.etag)


if __name__ == "__main__":
    main()
