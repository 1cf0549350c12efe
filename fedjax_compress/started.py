"""When this process began to load the package."""

import time

STARTED = time.time()
"""Seconds since 1970. Files of the package that are younger are not what it runs."""
