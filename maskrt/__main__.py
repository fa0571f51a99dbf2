"""`python -m maskrt`."""

from .cli import main

main()
