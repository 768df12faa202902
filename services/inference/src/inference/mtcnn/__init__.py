"""MTCNN: pure vision; knows no gRPC, no settings and no logging set-up."""
