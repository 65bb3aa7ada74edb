"""`python -m solon` is `solon`."""

from solon.cli import main

main()
