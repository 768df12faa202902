"""The contract: modules generated from infer.proto (`make protos`); not edited by hand."""
