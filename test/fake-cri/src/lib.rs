//! A CRI runtime in memory, with scripted containers.
