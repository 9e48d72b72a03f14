"""What serves, whatever the protocol: jobs, queues, shared batches, kept images, metrics, traces."""
