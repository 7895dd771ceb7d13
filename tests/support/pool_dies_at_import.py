"""A runner module whose import kills the worker: the pool must give up at some point."""

import os

if os.environ.get("POOL_TEST_DIES") == "1":
    os._exit(7)
