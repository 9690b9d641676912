"""`canaryd demo`: a release and a rollback on a simulated cluster."""
