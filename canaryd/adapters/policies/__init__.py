"""Reads policies from files, and checks their PromQL."""
