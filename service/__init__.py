"""The service around graphpass: upload, convert, evaluate, download, on one machine or many. See docs/service.md."""
