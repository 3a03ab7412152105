"""Serving the API: processes on one listening socket that come and go without a failed request."""
