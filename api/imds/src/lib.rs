//! IMDSv2 paths, documents and client.
