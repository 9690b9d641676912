"""`python -m canaryd.cli` is `canaryd`."""

from canaryd.cli import main

main(prog_name="canaryd")
