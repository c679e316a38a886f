"""What is asked of rtnetlink for each endpoint, in plain messages: pyroute2 makes an event loop for each request."""
