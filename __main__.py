"""``python -m learning_signal`` is the command line of ``run.py``."""

from learning_signal.run import main

if __name__ == "__main__":
    main()
