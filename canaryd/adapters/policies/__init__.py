"""Policies as files, and what their PromQL must keep to."""
