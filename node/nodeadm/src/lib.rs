//! Turns user data into a configured node.
