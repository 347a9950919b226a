"""What stands in front of a pair, so that clients need to know one address only."""
