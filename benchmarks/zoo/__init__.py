"""Public pretrained networks, converted, verified and measured: docs/zoo.md."""
