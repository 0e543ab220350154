"""Creates personas until it is killed: `python -m tests.holding.create_personas FOLDER`."""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path

from rolebook.core.session import new_id
from rolebook.library.file_library import FileLibrary


def main() -> None:
    """Say each id after its file stands."""
    folder = Path(sys.argv[1])
    library = FileLibrary(folder / "personas", folder / "templates")
    run = new_id()
    for number in count():
        text = f"You are number {number}.\n" * 200
        path = library.create_persona(f"p-{run}-{number}", {"name": f"{number}", "system": text})
        print(path.stem, flush=True)


if __name__ == "__main__":
    main()
