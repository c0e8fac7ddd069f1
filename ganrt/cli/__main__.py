"""`python -m ganrt.cli`: the command line where no script is installed."""

from ganrt.cli.main import main

main()
