"""What an SRE writes: the policy of a service, validated once; past `Policy` everything is frozen and
trusted."""
