"""Telling people, and asking gates: HTTP receivers, Alertmanager, and the queue that delivers to them."""
