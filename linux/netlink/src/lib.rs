//! Links, addresses, routes, rules and neighbours.
