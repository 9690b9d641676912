"""The commands, one room each; no command imports another. What they share is in `canaryd.cli`."""
