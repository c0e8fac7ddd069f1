"""`python -m ganrt`: the command line where no script is installed."""

from ganrt.cli.main import main

if __name__ == "__main__":
    main()
