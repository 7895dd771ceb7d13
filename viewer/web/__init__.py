"""The live page: a log in a browser, as it is written (command ``view``)."""
