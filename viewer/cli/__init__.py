"""The command line's options, the commands that read a log, signals and the terminal."""
