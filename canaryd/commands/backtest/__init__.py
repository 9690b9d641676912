"""`canaryd backtest` and `canaryd record`: policies tried on the past, and the past kept in a file."""
