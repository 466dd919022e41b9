//! CRI v1: the messages and the client.
