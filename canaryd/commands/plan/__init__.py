"""`canaryd plan`: what a policy's releases will be like, foreseen on a simulated service."""
