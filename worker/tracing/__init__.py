"""One OpenTelemetry trace an order, made from the record once the order has ended: nothing is added to its way."""
