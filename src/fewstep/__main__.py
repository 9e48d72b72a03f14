"""`python -m fewstep` is the command `fewstep`."""

from fewstep.cli.main import main

main()
