"""`python -m canaryd` is `canaryd`."""

from canaryd.cli import main

main(prog_name="canaryd")
