"""The transport: the gRPC servicer, its messages, its errors and the queue in front of the detector."""
