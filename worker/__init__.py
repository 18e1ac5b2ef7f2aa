"""What executes orders: the Celery worker of one broker, and the command line that runs a fleet of them."""
