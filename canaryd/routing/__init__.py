"""Arithmetic of Istio's and the Gateway API's route documents: what is sent where, and what a route becomes
at a weight.

Pure: documents in, documents out; reading and writing them is `adapters/kube`.
"""
