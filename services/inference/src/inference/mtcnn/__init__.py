"""The MTCNN detector. It knows no transport, no settings and no logging set-up."""
