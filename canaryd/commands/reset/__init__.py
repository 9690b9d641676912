"""`canaryd reset`: takes back what canaryd left of a service."""
