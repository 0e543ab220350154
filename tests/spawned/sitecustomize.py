"""Of the libraries, processes that tests start find what people have who test nothing.

sqlite-utils loads numpy where it is, which takes as long as a tenth of all that a server loads.
"""

import sys

sys.modules["numpy"] = None  # type: ignore[assignment]
