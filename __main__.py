"""``python -m learning_signal`` is the command line of ``run.py``."""

import sys

if __name__ == "__main__":
    if not sys.flags.safe_path:
        # Python puts the working folder before its own library: a queue.py there would be imported in its place.
        del sys.path[0]
    from learning_signal.run import main

    main()
