"""A simulated service mesh: where requests go, who serves them, and what Istio counts of them."""
