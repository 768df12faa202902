"""The HTTP gateway of facet."""
