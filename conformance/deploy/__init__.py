"""What docs/deploy has, in the hands of those that it is for: systemd, Prometheus, collectd."""
