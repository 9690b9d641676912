"""Notifiers and gates: webhooks, Alertmanager, the queue that delivers announcements to them, and the client
of gates."""
