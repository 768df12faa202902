"""The workers of facet: supervisor, gRPC workers, and the detector in `inference.mtcnn`."""
