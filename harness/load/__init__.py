"""Orders in: the schedule, and the driver that sends orders by it."""
