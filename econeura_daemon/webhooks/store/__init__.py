"""The SQL of subscriptions, deliveries and claims."""
