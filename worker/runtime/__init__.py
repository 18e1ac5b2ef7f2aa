"""What any long-running part needs: clocks, loops, isolation of a failure. Nothing here knows an order."""
