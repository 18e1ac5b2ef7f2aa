"""HTTP for every REST adapter: requests that end, answers of bounded size, and what a failure proves."""
